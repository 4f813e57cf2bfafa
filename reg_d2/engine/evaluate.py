"""Evaluating a model on ``DATASETS.TEST``: ``results.json``, the paper's tables, numbers for Detectron2's hooks."""

import logging
import os
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from torch import nn

from ..evaluation import REGCOCOEvaluator, class_table, detectron2_metrics, paper_tables, save_results

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, model: nn.Module, build_loader: Callable, evaluators: list | None = None) -> dict:
    """Run a model on every data set of ``DATASETS.TEST``.

    Writes ``OUTPUT_DIR/results.json`` for one data set; for several, ``OUTPUT_DIR/results_<name>.json`` each. Prints
    the tables of E18 and the classes' own numbers.

    Args:
        cfg: the run's config.
        model: in any mode; it is put back into it.
        build_loader: from ``(cfg, dataset name)`` to a test loader.
        evaluators: one a data set; None for REG's COCO evaluator.

    Returns:
        On the main worker Detectron2's form: {"bbox": {"AP": float, ...}, "segm": ...}, below the data set's name
        where there are several; without what has no ground truth. {} on the other workers.
    """
    names = cfg.DATASETS.TEST
    flat = {}
    for i, name in enumerate(names):
        folder = os.path.join(cfg.OUTPUT_DIR, "inference", name)
        evaluator = evaluators[i] if evaluators is not None else REGCOCOEvaluator(name, folder)
        results = inference_on_dataset(model, build_loader(cfg, name), evaluator)
        if not comm.is_main_process():
            continue
        file_name = "results.json" if len(names) == 1 else f"results_{name}.json"
        path = os.path.join(cfg.OUTPUT_DIR, file_name)
        save_results(path, results)
        logger.info(f"Results on {name}, also in {path}:\n\n{_tables(cfg, results)}")
        flat[name] = detectron2_metrics(results)
    return next(iter(flat.values())) if len(flat) == 1 else flat


def _tables(cfg: CfgNode, results: dict) -> str:
    run = os.path.basename(os.path.normpath(cfg.OUTPUT_DIR))
    parts = [paper_tables({run: results})]
    parts += [class_table(results, task) for task in ("bbox", "segm") if task in results]
    return "\n\n".join(parts)
