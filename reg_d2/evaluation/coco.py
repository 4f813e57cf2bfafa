"""COCO metrics for boxes and masks (E15), with precision, recall and F1 at one confidence (E16)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .checks import check_results
from .ground_truth import load_ground_truth, names_with_masks
from .matching import TaskMatches, match
from .samples import collect_samples
from .summary import summarize_task

TASKS = ("bbox", "segm")


@dataclass(frozen=True)
class Evaluation:
    """Ground truth and detections, checked and matched; every number and picture starts from it.

    ``truth``: of ``load_ground_truth``. ``detections``: as given, or as read. ``mask_names``: the classes that have
    masks. ``tasks``: "bbox" and "segm" -> their matches, over all classes and over those with masks.
    """

    truth: dict
    detections: Sequence[Mapping]
    mask_names: list[str]
    tasks: dict[str, TaskMatches]


def match_detections(
    ground_truth: str | os.PathLike | Mapping,
    detections: Sequence[Mapping] | str | os.PathLike,
    *,
    tasks: Collection[str] = TASKS,
    mask_classes: Collection[str] | None = None,
) -> Evaluation:
    """Check input and match it once, for all that is made of it; arguments as of ``evaluate_detections``."""
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise ValueError(f"unknown tasks {unknown}: choose from {list(TASKS)}")
    truth = load_ground_truth(ground_truth)
    detections = check_results(detections, truth, tasks)
    with_masks = names_with_masks(truth, mask_classes)
    names = {"bbox": [c["name"] for c in truth["categories"]], "segm": with_masks}
    matched = {t: match(collect_samples(truth, detections, t, names[t])) for t in TASKS if t in tasks}
    return Evaluation(truth, detections, with_masks, matched)


def summarize(
    evaluation: Evaluation, *, fixed_confidence: float = 0.5, train_counts: Mapping[str, int] | None = None
) -> dict[str, dict]:
    """All numbers of an evaluation; arguments and result as of ``evaluate_detections``."""
    results = {
        task: summarize_task(matches, matches.names, fixed_confidence, train_counts, len(evaluation.detections))
        for task, matches in evaluation.tasks.items()
    }
    if set(evaluation.tasks) == set(TASKS):
        names = evaluation.mask_names
        results["segm_boxes"] = summarize_task(evaluation.tasks["bbox"], names, fixed_confidence, train_counts)
    return results


def evaluate_detections(
    ground_truth: str | os.PathLike | Mapping,
    detections: Sequence[Mapping] | str | os.PathLike,
    *,
    tasks: Collection[str] = TASKS,
    mask_classes: Collection[str] | None = None,
    fixed_confidence: float = 0.5,
    train_counts: Mapping[str, int] | None = None,
) -> dict[str, dict]:
    """Evaluate COCO results: AP (E15, 101 points, 100 detections per image and class), P, R, F1 (E16), and why.

    ``ground_truth``: COCO dict or its file. ``detections``: list of dicts with image_id, category_id, score (0..1),
    bbox (x, y, width, height; pixels) and optionally segmentation (RLE of the full image) and score_std, or its JSON
    file. ``tasks``: of "bbox", "segm". ``mask_classes``: names of the classes that have masks; None: those with a mask
    in the ground truth. ``fixed_confidence``: second confidence at which P, R, F1 are given. ``train_counts``: class
    name -> objects in training, for ``by_frequency``. Nothing passed in is changed.

    Returns ``{"bbox": {...}, "segm": {...}, "segm_boxes": {...}}``: boxes of all classes, masks of the classes that
    have masks, boxes of those same classes (tables 1, 2, 3 of E18; the last where both tasks run). Each holds

    - ``AP, AP50, AP75, APs, APm, APl``, the keys of ``operating_point``, ``num_gt, num_detections``;
    - ``per_class``: the same by class name;
    - ``by_size``, here and in each class: AP, AP50, P, R, F1 and counts of small, medium and large objects;
    - ``by_frequency``: see there; only with ``train_counts``;
    - ``ultralytics-8.2``: the second convention of E16 (see ``ultralytics``); all other P, R, F1 are COCO's matching;
    - but for "segm_boxes": ``confusion``, ``errors``, ``calibration``, ``empty_images``, and for "segm" ``boundary``,
      each as its function in the module of that name says.

    Rates are in 0..100, confidences in 0..1. What has no ground truth (a class, a size bin, everything) is None and
    left out of means; ground truth without a prediction is 0.

    AP takes every detection given, P, R and F1 those from score 0.001 up. Objects without a mask are ignored regions
    in "segm" (see ``task_annotations``) and count in both box tasks. Raises ValueError for input that COCO's code
    would misread (see ``check_results``, ``load_ground_truth``). AP equals pycocotools'.
    """
    evaluation = match_detections(ground_truth, detections, tasks=tasks, mask_classes=mask_classes)
    return summarize(evaluation, fixed_confidence=fixed_confidence, train_counts=train_counts)
