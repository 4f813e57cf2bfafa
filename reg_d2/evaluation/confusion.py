"""The confusion matrix of a detector, with background."""

from __future__ import annotations

import numpy as np

from .matching import TaskMatches, threshold_index

BACKGROUND = "background"


def confusion_matrix(matches: TaskMatches, confidence: float | None, iou: float = 0.5) -> dict:
    """Which class each object was taken for, at one confidence and IoU.

    First come the matches of COCO within a class, so that the diagonal is the number of true positives. What is left
    over is then matched across classes: in order of score each detection takes the free object of highest IoU >=
    ``iou``. Objects left over are missed, detections left over are on background. Crowd regions, and detections on
    them, are left out.

    ``confidence`` in 0..1; None (nothing chose one): all detections. Returns ``classes`` (K names and "background"),
    ``matrix`` (K+1 rows of K+1 int; row: ground truth, column: prediction), ``confidence`` and ``iou``.
    """
    t = threshold_index(iou)
    num_classes = len(matches.names)
    threshold = 0.0 if confidence is None else confidence
    shown = ~matches.det_ignored[0, t] & (matches.det_score >= threshold)
    taken = np.where(shown, matches.matched[0, t], -1)
    free = ~matches.gt_ignored[0]
    free[taken[taken >= 0]] = False

    d, g = matches.pair_det, matches.pair_gt
    pairs = np.flatnonzero(
        (matches.det_class[d] != matches.gt_class[g]) & (matches.pair_iou >= iou) & (shown & (taken < 0))[d] & free[g]
    )
    order = np.lexsort((-matches.pair_iou[pairs], -matches.det_score[d[pairs]]))
    for p in pairs[order]:
        if taken[d[p]] < 0 and free[g[p]]:
            taken[d[p]], free[g[p]] = g[p], False

    truth = np.where(taken >= 0, np.append(matches.gt_class, num_classes)[taken], num_classes)
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=int)
    np.add.at(matrix, (truth[shown], matches.det_class[shown]), 1)
    np.add.at(matrix, (matches.gt_class[free], num_classes), 1)
    return {
        "classes": [*matches.names, BACKGROUND],
        "matrix": matrix.tolist(),
        "confidence": confidence,
        "iou": iou,
    }
