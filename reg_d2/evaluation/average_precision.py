"""Average precision over 101 recalls (E15), from matches."""

from __future__ import annotations

import numpy as np

from .matching import IOU_THRESHOLDS, SIZES, TaskMatches, threshold_index

RECALLS = np.linspace(0.0, 1.0, 101)


def interpolated_precision(true_positive: np.ndarray, counts: np.ndarray, num_gt: int) -> np.ndarray:
    """Highest precision at or beyond each of 101 recalls, 0 where the recall is not reached (E15).

    ``true_positive``, ``counts`` (..., N) bool, by falling score: right, and not ignored. ``num_gt`` > 0. Returns
    (..., 101) float, 0..1. Source: pycocotools 2.0 ``COCOeval.accumulate``.
    """
    *shape, n = true_positive.shape
    if not n:
        return np.zeros((*shape, len(RECALLS)))
    tp = np.cumsum(true_positive & counts, axis=-1, dtype=float)
    precision = tp / np.maximum(np.cumsum(counts, axis=-1), 1)
    # Beyond the last detection precision is 0: one more column.
    envelope = np.zeros((*shape, n + 1))
    envelope[..., :n] = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    recall = tp / num_gt
    flat = [np.searchsorted(r, RECALLS, side="left") for r in recall.reshape(-1, n)]
    index = np.array(flat, dtype=np.int64).reshape(*shape, len(RECALLS))
    return np.take_along_axis(envelope, index, axis=-1)


def precision_table(matches: TaskMatches) -> np.ndarray:
    """Interpolated precision of every class: (10 IoUs, 101 recalls, K classes, 4 sizes) float, 0..1.

    -1 where a class has no object of the size. The layout is that of pycocotools' ``eval["precision"]``.
    """
    table = np.full((len(IOU_THRESHOLDS), len(RECALLS), len(matches.names), len(SIZES)), -1.0)
    for a, size in enumerate(SIZES):
        for k, num_gt in enumerate(matches.num_gt(size)):
            if num_gt:
                of_class = class_order(matches.det_class, matches.det_score, k)
                right, counts = matches.matched[a][:, of_class] >= 0, ~matches.det_ignored[a][:, of_class]
                table[:, :, k, a] = interpolated_precision(right, counts, num_gt)
    return table


def class_order(classes: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the detections of class ``k``, by falling score; ties stay in order.

    ``classes`` (D,) int, ``scores`` (D,) float, as in ``Samples``.
    """
    of_class = np.flatnonzero(classes == k)
    return of_class[np.argsort(-scores[of_class], kind="stable")]


def precision_recall_curves(matches: TaskMatches) -> dict:
    """Interpolated precision over recall at IoU 0.50 and 0.75, for plots.

    Returns ``{"recall": [101], "precision": {class: {"0.50": [101], "0.75": [101]} or None}}``, 0..1; None for a class
    without ground truth.
    """
    table = precision_table(matches)[..., 0]
    precision = dict.fromkeys(matches.names)
    for k, name in enumerate(matches.names):
        if table[0, 0, k] >= 0:
            precision[name] = {f"{iou:.2f}": table[threshold_index(iou), :, k].tolist() for iou in (0.5, 0.75)}
    return {"recall": RECALLS.tolist(), "precision": precision}
