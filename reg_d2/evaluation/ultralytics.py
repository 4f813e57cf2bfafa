"""Precision, recall, F1 and AP by the rules of the evaluator of the paper's time, ``ultralytics-8.2`` (E16).

What differs from COCO's rules, all of which moves the numbers (AP by 2 to 4 points where recall is low):

- Detections enter above score 0.001, the best 300 of an image. There are no crowd regions (they are left out of the
  ground truth, so a detection on one is a false positive) and no ignored objects.
- A detection tries only the object of its class with the highest IoU; an object that several want goes to the most
  confident, and the others do not fall back to their second best.
- The precision-recall curve begins at (0, 1) and ends with a straight ramp from its last point to (1, 0); AP is the
  trapezoid integral of its envelope at 101 recalls.
- P and R over confidence are read off at 1000 confidences by linear interpolation; above the highest score P is 1.
- One confidence for all classes: where the mean over classes of F1, smoothed over 10 % of its length, is highest.

Own implementation of these rules; held to the package ``ultralytics`` 8.2.90 by its numbers on random detections.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .matching import IOU_THRESHOLDS, TaskMatches
from .operating_point import NUM_CONFIDENCES, f1_score, smooth

NAME = "ultralytics-8.2"
SCORE_FLOOR = 0.001
MAX_DETECTIONS = 300
TINY = 1e-16


def match_best_only(
    pair_det: np.ndarray, pair_gt: np.ndarray, pair_iou: np.ndarray, order: np.ndarray, num_det: int
) -> np.ndarray:
    """True positives at every IoU threshold where each detection tries its best object only.

    ``pair_det``, ``pair_gt`` (P,) int, ``pair_iou`` (P,) float: pairs of one class and image; ``order`` (D,) int, place
    of each detection by falling score. Returns (D, 10) bool.
    """
    correct = np.zeros((num_det, len(IOU_THRESHOLDS)), dtype=bool)
    by_det = np.lexsort((-pair_iou, pair_det))
    best = by_det[np.unique(pair_det[by_det], return_index=True)[1]]
    for t, threshold in enumerate(IOU_THRESHOLDS):
        candidates = best[pair_iou[best] >= threshold]
        candidates = candidates[np.argsort(order[pair_det[candidates]])]
        winners = candidates[np.unique(pair_gt[candidates], return_index=True)[1]]
        correct[pair_det[winners], t] = True
    return correct


def class_curves(correct: np.ndarray, scores: np.ndarray, num_gt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AP at the 10 IoU thresholds, and P and R at IoU 0.5 over 1000 confidences, of one class.

    ``correct`` (N, 10) bool, ``scores`` (N,) float, both by falling score; ``num_gt`` > 0. Returns (10,), (1000,),
    (1000,) float, 0..1.
    """
    if not len(scores):
        return np.zeros(len(IOU_THRESHOLDS)), np.zeros(NUM_CONFIDENCES), np.zeros(NUM_CONFIDENCES)
    tp = np.cumsum(correct, axis=0)
    recall = tp / (num_gt + TINY)
    precision = tp / np.arange(1, len(scores) + 1)[:, None]
    confidences = np.linspace(0.0, 1.0, NUM_CONFIDENCES)
    # np.interp wants rising x.
    p = np.interp(-confidences, -scores, precision[:, 0], left=1.0)
    r = np.interp(-confidences, -scores, recall[:, 0], left=0.0)
    ap = np.array([_ramped_ap(recall[:, t], precision[:, t]) for t in range(len(IOU_THRESHOLDS))])
    return ap, p, r


def ultralytics_metrics(matches: TaskMatches, names: Collection[str] | None = None) -> dict:
    """P, R, F1, AP50 and AP of one task by the rules of ``ultralytics-8.2`` (see the module).

    ``names``: the classes to average; None: all. Returns rates in 0..100: ``confidence`` (0..1), ``AP, AP50, precision,
    recall``, ``f1`` of the means of P and R, ``f1_mean_of_classes`` and ``per_class`` (``AP, AP50, precision, recall,
    f1, num_gt``). None where there is no ground truth.
    """
    enters = (matches.det_score > SCORE_FLOOR) & (_image_ranks(matches) < MAX_DETECTIONS)
    d, g = matches.pair_det, matches.pair_gt
    same = (matches.det_class[d] == matches.gt_class[g]) & enters[d] & ~matches.gt_crowd[g]
    order = np.empty(len(enters), dtype=np.int64)
    order[np.argsort(-matches.det_score, kind="stable")] = np.arange(len(enters))
    correct = match_best_only(d[same], g[same], matches.pair_iou[same], order, len(enters))
    num_gt = np.bincount(matches.gt_class[~matches.gt_crowd], minlength=len(matches.names))

    curves = {}
    for k, name in enumerate(matches.names):
        if num_gt[k] and (names is None or name in names):
            of_class = np.flatnonzero(enters & (matches.det_class == k))
            of_class = of_class[np.argsort(order[of_class])]
            curves[name] = class_curves(correct[of_class], matches.det_score[of_class], int(num_gt[k]))
    result = summarize_curves(curves)
    for k, name in enumerate(matches.names):
        if names is None or name in names:
            nothing = dict.fromkeys(("AP", "AP50", "precision", "recall", "f1"))
            result["per_class"][name] = result["per_class"].pop(name, nothing) | {"num_gt": int(num_gt[k])}
    return result


def summarize_curves(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict:
    """The numbers of ``ultralytics_metrics`` from each class's ``class_curves``; only classes with ground truth."""
    keys = ("confidence", "AP", "AP50", "precision", "recall", "f1", "f1_mean_of_classes")
    if not curves:
        return dict.fromkeys(keys) | {"per_class": {}}
    ap, p, r = (np.array(part) for part in zip(*curves.values(), strict=True))
    f1 = 2 * p * r / (p + r + TINY)
    i = int(smooth(f1.mean(axis=0)).argmax())
    per_class = {
        name: {
            "AP": 100 * float(ap[k].mean()),
            "AP50": 100 * float(ap[k, 0]),
            "precision": 100 * float(p[k, i]),
            "recall": 100 * float(r[k, i]),
            "f1": 100 * float(f1[k, i]),
        }
        for k, name in enumerate(curves)
    }
    means = {key: float(np.mean([c[key] for c in per_class.values()])) for key in keys[1:5]}
    return {
        "confidence": i / (NUM_CONFIDENCES - 1),
        **means,
        "f1": f1_score(means["precision"], means["recall"]),
        "f1_mean_of_classes": 100 * float(f1[:, i].mean()),
        "per_class": per_class,
    }


def _ramped_ap(recall: np.ndarray, precision: np.ndarray) -> float:
    recall = np.concatenate([[0.0], recall, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[1.0], precision, [0.0]])[::-1])[::-1]
    at = np.interp(np.linspace(0.0, 1.0, 101), recall, envelope)
    return float((at[1:] + at[:-1]).sum() / 200)


def _image_ranks(matches: TaskMatches) -> np.ndarray:
    """(D,) place of each detection in its image, by falling score."""
    order = np.lexsort((-matches.det_score, matches.det_image))
    first = np.searchsorted(matches.det_image, matches.det_image)
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - first
    return ranks
