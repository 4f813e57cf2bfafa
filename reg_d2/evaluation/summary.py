"""The numbers of one task, from its matches: for all classes, each class, each size, and groups of classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from .average_precision import precision_table
from .boundary import boundary_quality
from .calibration import calibration
from .confusion import confusion_matrix
from .empty_images import empty_images
from .errors import error_types
from .groups import by_frequency
from .matching import SIZES, TaskMatches, threshold_index
from .operating_point import best_f1, class_curves, operating_point, rates_at
from .ultralytics import NAME as ULTRALYTICS
from .ultralytics import ultralytics_metrics

logger = logging.getLogger(__name__)

# metric -> (IoU threshold or None for the mean of 0.50:0.05:0.95, size bin)
AP_METRICS = {
    "AP": (None, "all"),
    "AP50": (0.5, "all"),
    "AP75": (0.75, "all"),
    "APs": (None, "small"),
    "APm": (None, "medium"),
    "APl": (None, "large"),
}


def summarize_task(
    matches: TaskMatches,
    names: Sequence[str],
    fixed_confidence: float,
    train_counts: Mapping[str, int] | None,
    num_given: int | None = None,
) -> dict:
    """One task's part of ``evaluate_detections``, over the classes ``names``.

    ``num_given``: number of detections before they were sorted into tasks; None for a table that repeats some classes
    of another task, which then gets no analysis of its own.
    """
    table = precision_table(matches)
    index = [matches.names.index(n) for n in names]
    of_class = matches.class_matches()
    point = operating_point({n: of_class[n] for n in names}, fixed_confidence)
    rates = point.pop("per_class")
    num_detections = np.bincount(matches.det_class, minlength=len(matches.names))
    num_gt = matches.num_gt()
    by_size, sizes_of_class = _by_size(matches, names, table, point["confidence"])
    per_class = {
        name: {
            **average_precisions(table[:, :, [k]]),
            **rates[name],
            "num_gt": int(num_gt[k]),
            "num_detections": int(num_detections[k]),
            "by_size": sizes_of_class[name],
        }
        for k, name in zip(index, names, strict=True)
    }
    result = {
        **average_precisions(table[:, :, index]),
        **point,
        "num_gt": int(num_gt[index].sum()),
        "num_detections": int(num_detections[index].sum()),
        "per_class": per_class,
        "by_size": by_size,
        ULTRALYTICS: ultralytics_metrics(matches, names),
    }
    if train_counts is not None:
        result["by_frequency"] = by_frequency(per_class, train_counts)
    if num_given is not None:
        result["confusion"] = confusion_matrix(matches, point["confidence"])
        result["errors"] = error_types(matches, point["confidence"])
        result["calibration"] = calibration(matches)
        result["empty_images"] = empty_images(matches, point["confidence"])
        if matches.task == "segm":
            result["boundary"] = boundary_quality(matches)
        _log_causes(matches.task, result, num_given)
    return result


def average_precisions(table: np.ndarray) -> dict[str, float | None]:
    """AP in 0..100 from a part of ``precision_table``: the mean of what is there (> -1), None where nothing is."""
    return {metric: _mean_precision(table, iou, size) for metric, (iou, size) in AP_METRICS.items()}


def _mean_precision(table: np.ndarray, iou: float | None, size: str) -> float | None:
    values = table[..., list(SIZES).index(size)]
    values = values if iou is None else values[threshold_index(iou)]
    values = values[values > -1]
    return 100 * float(values.mean()) if values.size else None


def _by_size(
    matches: TaskMatches, names: Sequence[str], table: np.ndarray, confidence: float | None
) -> tuple[dict, dict[str, dict]]:
    """``by_size`` over all classes and of each class; P, R and F1 at the confidence of the whole task."""
    overall, of_class = {}, {name: {} for name in names}
    index = [matches.names.index(n) for n in names]
    for size in list(SIZES)[1:]:
        found = matches.class_matches(size=size)
        found = {n: found[n] for n in names}
        curves = class_curves(found)
        rates = rates_at(found, confidence)
        for k, name in zip(index, names, strict=True):
            of_class[name][size] = {
                **_ap_and_ap50(table[:, :, [k]], size),
                **rates["per_class"][name],
                **best_f1(curves[name][2] if name in curves else None),
                "num_gt": found[name].num_gt,
            }
        values = [of_class[n][size] for n in names]
        best = [v["best_f1"] for v in values if v["best_f1"] is not None]
        overall[size] = {
            **_ap_and_ap50(table[:, :, index], size),
            **{k: v for k, v in rates.items() if k not in ("confidence", "per_class")},
            "f1_mean_of_best": float(np.mean(best)) if best else None,
            **{
                key: sum(v[key] or 0 for v in values)
                for key in ("num_gt", "true_positives", "false_positives", "missed")
            },
        }
    return overall, of_class


def _ap_and_ap50(table: np.ndarray, size: str) -> dict[str, float | None]:
    return {"AP": _mean_precision(table, None, size), "AP50": _mean_precision(table, 0.5, size)}


def _log_causes(task: str, result: Mapping, num_given: int) -> None:
    """Say why a task's numbers are 0 or missing; a bare 0 sends users to look in the wrong place."""
    if not result["per_class"]:
        logger.warning("%s: no class to evaluate (no masks in the ground truth?): every metric is n/a", task)
    elif not result["num_gt"]:
        logger.warning(
            "%s: no ground truth (wrong file, or all of it crowd or without masks?): every metric is n/a",
            task,
        )
    elif not num_given:
        logger.warning(
            "%s: no predictions, so AP is 0. Usual causes: random or unloaded weights (MODEL.WEIGHTS), too few steps, "
            "or a score threshold that is too high (MODEL.ROI_HEADS.SCORE_THRESH_TEST)",
            task,
        )
    elif not result["num_detections"]:
        logger.warning(
            "%s: none of the %d predictions has one, so AP is 0. Usual causes: masks are off (MODEL.MASK_ON), the "
            "result file holds the other task only, or only classes outside this task are predicted",
            task,
            num_given,
        )
    elif result["AP50"] == 0:
        logger.warning(
            "%s: %d predictions and none is right, so AP is 0. Usual causes: random weights, another class list or "
            "order than in training, or coordinates of a resized image",
            task,
            result["num_detections"],
        )
