"""Evaluating a model on ``DATASETS.TEST``: ``results.json``, ``report.html``, tables, and Detectron2's numbers."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from ..data.loader import build_test_loader
from ..evaluation import REGCOCOEvaluator, class_table, detectron2_metrics, paper_tables, save_results
from ..evaluation.evaluator import PREDICTIONS_FILE
from ..report import Run, analyse, write_report
from .predictor import load_weights, trained_record
from .setup import fast_layout, get_classes, prepare_data

logger = logging.getLogger(__name__)

# Of the report that ends a training; tools/evaluate.py takes 1,000 by default.
RESAMPLES = 200


def evaluate(cfg: CfgNode, model: nn.Module, build_loader: Callable, evaluators: list | None = None) -> dict:
    """Run a model on every data set of ``DATASETS.TEST``.

    Writes ``OUTPUT_DIR/results.json`` and, with ``TEST.REPORT``, ``report.html`` for one data set; for several,
    ``results_<name>.json`` and ``report_<name>.html`` each. Prints the tables of E18 and the classes' own numbers.

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
        if evaluators is not None:
            evaluator = evaluators[i]
        else:
            evaluator = REGCOCOEvaluator(name, folder, train_counts=training_counts(cfg))
        results = inference_on_dataset(model, build_loader(cfg, name), evaluator)
        if not comm.is_main_process():
            continue
        suffix = "" if len(names) == 1 else f"_{name}"
        path = os.path.join(cfg.OUTPUT_DIR, f"results{suffix}.json")
        save_results(path, results)
        logger.info(f"Results on {name}, also in {path}:\n\n{_tables(cfg, results)}")
        if cfg.TEST.REPORT:
            _report(cfg, name, evaluator, os.path.join(cfg.OUTPUT_DIR, f"report{suffix}.html"))
        flat[name] = detectron2_metrics(results)
    return next(iter(flat.values())) if len(flat) == 1 else flat


def predict_checkpoint(cfg: CfgNode, names: Sequence[str], folder: str | os.PathLike) -> dict[str, Path]:
    """Predict with ``MODEL.WEIGHTS`` on data sets of the catalogue.

    Args:
        cfg: of the training; its classes are filled in from the checkpoint.
        names: of the catalogue; their classes must be the checkpoint's.
        folder: gets a COCO result file for each, in ``<name>/coco_instances_results.json``.

    Returns:
        The files by name.

    Raises:
        FileNotFoundError, ValueError: no checkpoint, one that does not fit the config, or other classes.
    """
    trained_record(cfg.MODEL.WEIGHTS)
    cfg.DATASETS.TEST = tuple(names)
    prepare_data(cfg, evaluate_only=True)
    model = fast_layout(build_model(cfg).eval(), cfg)
    load_weights(model, cfg)
    files = {}
    for name in names:
        target = os.path.join(folder, name)
        inference_on_dataset(model, build_test_loader(cfg, name), REGCOCOEvaluator(name, target, tasks=()))
        files[name] = Path(target) / PREDICTIONS_FILE
    return files


def training_counts(cfg: CfgNode) -> dict[str, int] | None:
    """Class name -> objects in training; None where the config does not know."""
    classes = get_classes(cfg)
    return dict(zip(classes.names, classes.box_counts, strict=True)) or None


def _report(cfg: CfgNode, name: str, evaluator, path: str) -> None:
    """The report comes after the results and must never cost them: whatever goes wrong in it is logged."""
    evaluation = getattr(evaluator, "evaluation", None)
    if evaluation is None:
        return
    try:
        counts = training_counts(cfg)
        run = Run(
            _run_name(cfg),
            evaluation,
            source=cfg.MODEL.WEIGHTS or cfg.OUTPUT_DIR,
            config=cfg,
            metrics_file=_metrics_file(cfg),
            results=dict(evaluator.results),
        )
        analyse([run], resamples=RESAMPLES, train_counts=counts)
        root = MetadataCatalog.get(name).get("image_root")
        write_report(path, [run], dataset=name, image_root=root, train_counts=counts)
        logger.info(f"Report: {path}")
    except Exception:
        logger.exception(f"{path} could not be written; the results are not affected")


def _metrics_file(cfg: CfgNode) -> str | None:
    """The training's curves: in its output folder, or beside the checkpoint that is evaluated elsewhere."""
    folders = (cfg.OUTPUT_DIR, os.path.dirname(cfg.MODEL.WEIGHTS))
    files = [os.path.join(folder, "metrics.json") for folder in folders]
    return next((f for f in files if os.path.isfile(f)), None)


def _run_name(cfg: CfgNode) -> str:
    return os.path.basename(os.path.normpath(cfg.OUTPUT_DIR))


def _tables(cfg: CfgNode, results: dict) -> str:
    parts = [paper_tables({_run_name(cfg): results})]
    parts += [class_table(results, task) for task in ("bbox", "segm") if task in results]
    return "\n\n".join(parts)
