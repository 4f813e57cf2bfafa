"""COCO metrics for boxes and masks (E15), with precision, recall and F1 at one confidence (E16)."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from .ground_truth import check_detections, load_ground_truth, names_with_masks, task_annotations, task_detections
from .matching import class_matches
from .operating_point import ClassMatches, operating_point

logger = logging.getLogger(__name__)

TASKS = ("bbox", "segm")
MAX_DETECTIONS = 100
# metric -> (IoU threshold or None for the mean of 0.50:0.05:0.95, size bin)
AP_METRICS = {
    "AP": (None, "all"),
    "AP50": (0.5, "all"),
    "AP75": (0.75, "all"),
    "APs": (None, "small"),
    "APm": (None, "medium"),
    "APl": (None, "large"),
}


def evaluate_detections(
    ground_truth: str | os.PathLike | Mapping,
    detections: Sequence[Mapping],
    *,
    tasks: Collection[str] = TASKS,
    mask_classes: Collection[str] | None = None,
    fixed_confidence: float = 0.5,
) -> dict[str, dict]:
    """Evaluate COCO results: AP (E15, 101 points, 100 detections per image and class) and P, R, F1 (E16).

    ``ground_truth``: COCO dict or its file. ``detections``: list of dicts with image_id, category_id, score (0..1),
    bbox (x, y, width, height; pixels) and optionally segmentation (RLE of the full image). ``tasks``: of "bbox",
    "segm". ``mask_classes``: names of the classes that have masks; None: those with a mask in the ground truth.
    ``fixed_confidence``: second confidence at which P, R, F1 are given. Nothing passed in is changed.

    Returns ``{"bbox": {...}, "segm": {...}, "segm_boxes": {...}}``: boxes of all classes, masks of the classes that
    have masks, boxes of those same classes (tables 1, 2, 3 of E18; the last where both tasks run). Each holds
    ``AP, AP50, AP75, APs, APm, APl``, the keys of ``operating_point``, ``num_gt, num_detections`` and ``per_class``
    (the same by class name). Rates are in 0..100, confidences in 0..1. What has no ground truth (a class, a size
    bin, everything) is None and left out of means; ground truth without a prediction is 0.

    AP takes every detection given, P, R and F1 those from score 0.001 up. Objects without a mask are ignored regions
    in "segm" (see ``task_annotations``) and count in both box tasks. Raises ValueError for input that COCO's code
    would misread (see ``check_detections``). AP equals pycocotools'.
    """
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise ValueError(f"unknown tasks {unknown}: choose from {list(TASKS)}")
    truth = load_ground_truth(ground_truth)
    check_detections(detections, truth)
    with_masks = names_with_masks(truth, mask_classes)

    results = {}
    if "bbox" in tasks:
        boxes = _evaluate(truth, detections, "bbox", [c["name"] for c in truth["categories"]])
        results["bbox"] = _summarize(boxes, boxes.names, fixed_confidence)
    if "segm" in tasks:
        results["segm"] = _summarize(_evaluate(truth, detections, "segm", with_masks), with_masks, fixed_confidence)
    if "bbox" in tasks and "segm" in tasks:
        results["segm_boxes"] = _summarize(boxes, with_masks, fixed_confidence)
    for task in (t for t in TASKS if t in results):
        _log_causes(task, results[task], len(detections))
    return results


@dataclass(frozen=True)
class _Evaluation:
    """One task, evaluated: ``precision`` (10 IoUs, 101 recalls, K classes, 4 sizes), -1 without ground truth."""

    names: list[str]
    precision: np.ndarray
    matches: dict[str, ClassMatches]
    num_detections: dict[str, int]


def _evaluate(truth: Mapping, detections: Sequence[Mapping], task: str, names: list[str]) -> _Evaluation:
    ids = {c["id"]: c["name"] for c in truth["categories"] if c["name"] in names}
    annotations = task_annotations(truth, task, ids)
    detections = task_detections(detections, task, ids)
    num_detections = dict.fromkeys(names, 0)
    for det in detections:
        num_detections[ids[det["category_id"]]] += 1
    if not ids or not truth["images"]:
        nothing = {n: ClassMatches(np.empty(0), np.empty(0, dtype=bool), 0) for n in names}
        return _Evaluation(names, np.full((10, 101, len(ids), 4), -1.0), nothing, num_detections)
    if task == "segm" and (
        no_size := [im["id"] for im in truth["images"] if not im.get("height") or not im.get("width")]
    ):
        raise ValueError(f"{len(no_size)} images have no height or width, first id {no_size[0]}: masks need them")

    gt = COCO({**truth, "annotations": annotations}, print_function=logger.debug)
    evaluator = COCOeval_faster(gt, gt.loadRes(detections), task, print_function=logger.debug)
    evaluator.params.catIds = list(ids)
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.evaluate()
    evaluator.accumulate()
    matches = class_matches(annotations, detections, evaluator.ious, ids, max_detections=MAX_DETECTIONS)
    return _Evaluation(
        names, evaluator.eval["precision"][..., 0], {ids[c]: m for c, m in matches.items()}, num_detections
    )


def _summarize(evaluation: _Evaluation, names: Sequence[str], fixed_confidence: float) -> dict:
    index = [evaluation.names.index(n) for n in names]
    point = operating_point({n: evaluation.matches[n] for n in names}, fixed_confidence)
    rates = point.pop("per_class")
    num_gt = {n: evaluation.matches[n].num_gt for n in names}
    per_class = {
        name: {
            **_average_precisions(evaluation.precision[:, :, [k]]),
            **rates[name],
            "num_gt": num_gt[name],
            "num_detections": evaluation.num_detections[name],
        }
        for k, name in zip(index, names, strict=True)
    }
    return {
        **_average_precisions(evaluation.precision[:, :, index]),
        **point,
        "num_gt": sum(num_gt.values()),
        "num_detections": sum(evaluation.num_detections[n] for n in names),
        "per_class": per_class,
    }


def _average_precisions(precision: np.ndarray) -> dict[str, float | None]:
    """AP in 0..100 from ``precision`` (10, 101, K, 4): the mean of what is there (> -1), None where nothing is."""
    result = {}
    for metric, (iou, size) in AP_METRICS.items():
        values = precision[..., ("all", "small", "medium", "large").index(size)]
        values = values if iou is None else values[round((iou - 0.5) / 0.05)]
        values = values[values > -1]
        result[metric] = 100 * float(values.mean()) if values.size else None
    return result


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
