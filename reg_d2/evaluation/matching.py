"""COCO's greedy matching, made once for all IoU thresholds and object sizes; every metric starts from it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .operating_point import ClassMatches
from .samples import Samples

MAX_DETECTIONS = 100
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Area in pixels, both ends included (COCO).
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class TaskMatches(Samples):
    """The samples of one task and what COCO's matching makes of them.

    A axes are the sizes (all, small, medium, large), T axes the IoU thresholds (0.50:0.05:0.95).

    Attributes:
        matched: (A, T, D) int32, the object that a detection took, -1 for none.
        det_ignored: (A, T, D) bool, neither right nor wrong: matched to an ignored object, unmatched and of another
            size, or beyond the 100 best of its image and class.
        gt_ignored: (A, G) bool, crowd regions and objects of another size.
    """

    matched: np.ndarray
    det_ignored: np.ndarray
    gt_ignored: np.ndarray

    def num_gt(self, size: str = "all") -> np.ndarray:
        """(K,) int, objects of each class that count."""
        counts = ~self.gt_ignored[list(SIZES).index(size)]
        return np.bincount(self.gt_class[counts], minlength=len(self.names))

    def class_matches(self, iou: float = 0.5, size: str = "all") -> dict[str, ClassMatches]:
        """Scores, true positives and number of objects of each class at one IoU threshold, for E16."""
        a, t = list(SIZES).index(size), threshold_index(iou)
        counts, right, num_gt = ~self.det_ignored[a, t], self.matched[a, t] >= 0, self.num_gt(size)
        of_class = [np.flatnonzero(counts & (self.det_class == k)) for k in range(len(self.names))]
        return {
            name: ClassMatches(self.det_score[i], right[i], int(num_gt[k]))
            for k, (name, i) in enumerate(zip(self.names, of_class, strict=True))
        }


def threshold_index(iou: float) -> int:
    """Index of an IoU threshold of 0.50:0.05:0.95; ValueError for any other."""
    found = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou))
    if not found.size:
        raise ValueError(f"IoU threshold {iou}: choose from {[round(float(t), 2) for t in IOU_THRESHOLDS]}")
    return int(found[0])


def match(samples: Samples, pair_iou: np.ndarray | None = None) -> TaskMatches:
    """Match detections to objects of their class as COCO does, at every threshold and size.

    ``pair_iou`` (P,) replaces the samples' IoUs (boundary AP). The result is pycocotools'; held to it by tests.
    """
    pair_iou = samples.pair_iou if pair_iou is None else pair_iou
    low, high = np.array(list(SIZES.values())).T[:, :, None]
    gt_ignored = samples.gt_crowd | (samples.gt_area < low) | (samples.gt_area > high)
    in_play = samples.det_rank < MAX_DETECTIONS
    pairs = np.flatnonzero(
        (samples.det_class[samples.pair_det] == samples.gt_class[samples.pair_gt])
        & in_play[samples.pair_det]
        & (pair_iou >= IOU_THRESHOLDS[0])
    )
    matched = greedy_match(
        samples.pair_det[pairs],
        samples.pair_gt[pairs],
        pair_iou[pairs],
        samples.det_rank,
        gt_ignored,
        samples.gt_crowd,
        IOU_THRESHOLDS,
    )
    other_size = (samples.det_area < low) | (samples.det_area > high)
    det_ignored = np.where(matched < 0, other_size[:, None], False)
    a, t, d = np.nonzero(matched >= 0)
    det_ignored[a, t, d] = gt_ignored[a, matched[a, t, d]]
    det_ignored |= ~in_play
    given = {f.name: getattr(samples, f.name) for f in fields(Samples)}
    return TaskMatches(**given, matched=matched, det_ignored=det_ignored, gt_ignored=gt_ignored)


def greedy_match(
    pair_det: np.ndarray,
    pair_gt: np.ndarray,
    pair_iou: np.ndarray,
    det_rank: np.ndarray,
    gt_ignored: np.ndarray,
    gt_crowd: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """In order of score each detection takes the free object of highest IoU >= threshold.

    Only where there is none it takes an ignored one; a crowd region may be taken again. Of equal IoUs the last object
    wins. All images, sizes and thresholds go at once, one rank after the other: detections of the same rank never
    want the same object.

    ``pair_det``, ``pair_gt`` (P,) int and ``pair_iou`` (P,) float: candidates, of one class and image each;
    ``det_rank`` (D,) int; ``gt_ignored`` (A, G), ``gt_crowd`` (G,) bool; ``thresholds`` (T,). Returns (A, T, D) int32:
    index of the object, or -1. Source: pycocotools 2.0 ``COCOeval.evaluateImg``.
    """
    order = np.lexsort((pair_gt, pair_iou, pair_det, det_rank[pair_det]))
    pair_det, pair_gt, pair_iou = pair_det[order], pair_gt[order], pair_iou[order]
    shape = (len(gt_ignored), len(thresholds))
    taken = np.zeros((*shape, len(gt_crowd)), dtype=bool)
    matched = np.full((*shape, len(det_rank)), -1, dtype=np.int32)
    rounds = np.flatnonzero(np.diff(det_rank[pair_det])) + 1
    for d, g, iou in zip(*(np.split(x, rounds) for x in (pair_det, pair_gt, pair_iou)), strict=True):
        if not d.size:
            continue
        begins = np.flatnonzero(np.append(True, d[1:] != d[:-1]))
        allowed = (iou >= thresholds[:, None]) & (~taken[:, :, g] | gt_crowd[g])
        # The highest key of a detection is its choice: what counts before what is ignored, then by IoU.
        key = np.arange(1, d.size + 1) + d.size * ~gt_ignored[:, None, g]
        best = np.maximum.reduceat(np.where(allowed, key, 0), begins, axis=2)
        a, t, i = np.nonzero(best)
        chosen = g[(best[a, t, i] - 1) % d.size]
        matched[a, t, d[begins[i]]] = chosen
        taken[a, t, chosen] = True
    return matched
