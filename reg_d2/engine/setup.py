"""From a command line to a frozen config: keys, data sets, classes, output folder, logs."""

import argparse
import logging
import os
import sys
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from tabulate import tabulate
from torch import nn

from .. import modeling  # noqa: F401  (registers the model's parts)
from ..config import add_reg_config
from ..data.catalog import find_entries, read_catalog, register, training_classes
from ..data.checks.before_run import check_before_run
from ..data.coco import ClassInfo
from ..data.loader import resamples, sampled_counts, training_records
from ..losses import imbalance_ratio
from ..modeling.settings import box_loss_name
from .checkpoint import ClassRecord
from .projects import add_projects

logger = logging.getLogger(__name__)


def load_config(config_file: str | os.PathLike, opts: list[str] | None = None) -> CfgNode:
    """Defaults, those of the ``PROJECTS`` too, then the file, then the options: not frozen, and without classes yet.

    ``MODEL.DEVICE`` becomes ``cpu`` where there is no CUDA.

    Raises:
        FileNotFoundError: no such file.
        KeyError, ValueError: an unknown key, or a value of another type, as Detectron2's config raises them; a file
            that is no YAML, holds no keys, or is its own ``_BASE_``; a project that is not found.
    """
    cfg = get_cfg()
    add_reg_config(cfg)
    if config_file and "://" not in str(config_file) and not Path(config_file).is_file():
        raise FileNotFoundError(f"--config-file {config_file} does not exist; the ready ones are under configs/")
    try:
        add_projects(cfg, config_file, opts or [])
        if config_file:
            cfg.merge_from_file(str(config_file))
    except RecursionError:
        raise ValueError(f"{config_file}: its _BASE_ leads back to itself") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{config_file} is not YAML: {error}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{config_file}: expected config keys with their values ({error})") from None
    cfg.merge_from_list(opts or [])
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """Everything before the model: config, data sets, classes, output folder, logs; in every worker.

    Args:
        args: of Detectron2's ``default_argument_parser``: ``config_file``, ``opts``, ``eval_only``, ``resume``.

    Returns:
        A frozen config whose class keys are filled in: from the checkpoint with ``--eval-only``, else from the
        training files.
    """
    cfg = load_config(args.config_file, args.opts)
    _setup_logs(cfg)
    prepare_data(cfg, evaluate_only=args.eval_only)
    cfg.freeze()
    default_setup(cfg, args)
    _log_classes(cfg)
    return cfg


def prepare_data(cfg: CfgNode, *, evaluate_only: bool = False) -> None:
    """Fill the class keys of a config and register its data sets; idempotent.

    Args:
        cfg: changed in place.
        evaluate_only: take the classes and their counts, those of the sampler too, from the checkpoint
            ``MODEL.WEIGHTS``, and register only ``DATASETS.TEST``. A checkpoint that holds no classes (any other
            tool's) falls back to the training files.

    Raises:
        UnusableDatasetError: the data would ruin the run; the message has the command that repairs it.
    """
    catalog = read_catalog(cfg.DATASETS.CATALOG)
    # Every name once: a set may be trained and tested on.
    names = [*([] if evaluate_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST]
    check_before_run(find_entries(catalog, list(dict.fromkeys(names))))
    record = checkpoint_record(cfg.MODEL.WEIGHTS) if evaluate_only else None
    names = list(cfg.DATASETS.TEST)
    if record is None:
        record = ClassRecord(training_classes(find_entries(catalog, cfg.DATASETS.TRAIN)))
        names = list(cfg.DATASETS.TRAIN) + names
    set_record(cfg, record)
    for entry in find_entries(catalog, names):
        if entry.more and entry.name in cfg.DATASETS.TEST:
            raise ValueError(
                f"{entry.name} of DATASETS.TEST has several sources; evaluation takes one COCO file: write one with "
                "tools/merge_datasets.py, or name them one by one in the catalogue"
            )
        register(entry, record.classes)
    if not evaluate_only:
        # Written either way: the config may be another run's, with what its sampler showed.
        counts = [], []
        if resamples(cfg):
            counts = sampled_counts(cfg, training_records(cfg))
        cfg.MODEL.REG.SAMPLED_BOX_COUNTS, cfg.MODEL.REG.SAMPLED_MASK_COUNTS = counts


def set_classes(cfg: CfgNode, classes: ClassInfo) -> None:
    """Write a model's classes into the config; without any masks the mask head is turned off."""
    reg = cfg.MODEL.REG
    reg.CLASS_NAMES = list(classes.names)
    reg.BOX_COUNTS, reg.MASK_COUNTS = list(classes.box_counts), list(classes.mask_counts)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(classes.names)
    if cfg.MODEL.MASK_ON and not classes.mask_classes:
        logger.warning("No object of the training set has a mask: MODEL.MASK_ON is set to False")
        cfg.MODEL.MASK_ON = False


def set_record(cfg: CfgNode, record: ClassRecord) -> None:
    """Write a checkpoint's classes into the config, and the counts of its sampler where it knows them."""
    set_classes(cfg, record.classes)
    if record.sampled_counts is not None:
        cfg.MODEL.REG.SAMPLED_BOX_COUNTS, cfg.MODEL.REG.SAMPLED_MASK_COUNTS = map(list, record.sampled_counts)


def fast_layout(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """The model in the memory layout that its convolutions work on, in place.

    Mixed precision wants channels last; so do CPUs, of which some take four times as long without it.
    """
    if cfg.SOLVER.AMP.ENABLED or cfg.MODEL.DEVICE == "cpu":
        return model.to(memory_format=torch.channels_last)
    return model


def get_classes(cfg: CfgNode) -> ClassInfo:
    """The classes that :func:`set_classes` wrote into a config."""
    reg = cfg.MODEL.REG
    return ClassInfo(tuple(reg.CLASS_NAMES), tuple(reg.BOX_COUNTS), tuple(reg.MASK_COUNTS))


def get_record(cfg: CfgNode) -> ClassRecord:
    """What a checkpoint of a config's run says of its classes and its box loss."""
    reg = cfg.MODEL.REG
    sampled = tuple(reg.SAMPLED_BOX_COUNTS), tuple(reg.SAMPLED_MASK_COUNTS)
    return ClassRecord(get_classes(cfg), sampled, box_loss_name(cfg))


def checkpoint_record(path: str) -> ClassRecord | None:
    """The classes that a checkpoint was trained on; None for a file of another tool.

    Raises:
        FileNotFoundError: the path is empty or there is no such file.
    """
    if "://" in path:
        path = PathManager.get_local_path(path)
    if not path or not PathManager.isfile(path):
        raise FileNotFoundError(f"MODEL.WEIGHTS {path!r} is not a file: evaluation needs a trained checkpoint")
    if not path.endswith(".pth"):
        return None
    with PathManager.open(path, "rb") as f:
        stored = torch.load(f, map_location="cpu", weights_only=True)
    stored = stored.get("classes") if isinstance(stored, dict) else None
    return None if stored is None else ClassRecord.from_state(stored)


def _setup_logs(cfg: CfgNode) -> None:
    """Everything goes to ``OUTPUT_DIR/log.txt``; a terminal gets our own lines, the losses, and warnings."""
    rank = comm.get_rank()
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    setup_logger(cfg.OUTPUT_DIR, rank, name="reg_d2", abbrev_name="reg")
    for name in ("detectron2", "fvcore"):
        # default_setup makes the same call, and gets this logger back.
        options = {} if name == "detectron2" else {"name": name}
        for handler in setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, **options).handlers:
            # The log file's handler is a StreamHandler, too.
            if getattr(handler, "stream", None) is sys.stdout:
                handler.addFilter(_for_terminal)


def _for_terminal(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name == "detectron2.utils.events"


def _log_classes(cfg: CfgNode) -> None:
    if not comm.is_main_process():
        return
    classes = get_classes(cfg)
    rows = zip(classes.names, classes.box_counts, classes.mask_counts, strict=True)
    rows = [[name, boxes, masks or "box only"] for name, boxes, masks in rows]
    table = tabulate(rows, headers=["class", "objects", "with mask"], tablefmt="github")
    ratios = [f"boxes {imbalance_ratio(classes.box_counts):.1f}"]
    if classes.mask_classes:
        ratios.append(f"masks {imbalance_ratio([n for n in classes.mask_counts if n > 0]):.1f}")
    logger.info(f"Classes of the training set, imbalance ratio of {', of '.join(ratios)} (E11):\n{table}")
