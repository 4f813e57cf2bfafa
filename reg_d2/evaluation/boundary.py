"""How well masks follow boundaries: boundary IoU and boundary AP.

Source: Cheng, Girshick, Dollar, Berg, Kirillov: Boundary IoU: Improving Object-Centric Image Segmentation Evaluation,
CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pycocotools.mask as mask_util

from .average_precision import precision_table
from .matching import IOU_THRESHOLDS, MAX_DETECTIONS, TaskMatches, match
from .rle import crop, run_lengths

DILATION_RATIO = 0.02


def boundary_quality(matches: TaskMatches) -> dict:
    """Boundary AP, and the mean boundary IoU of the masks that are matched at mask IoU 0.5.

    Boundary AP is AP with min(mask IoU, boundary IoU) in place of IoU; crowd regions keep mask IoU. The boundary is
    the mask's pixels within 2 % of the image's diagonal from its outline, the image's border included.

    ``matches``: of the task "segm". Returns ``AP, AP50, mean_iou`` and, to compare it with, ``mask_mean_iou`` of the
    same pairs (all 0..100, None without ground truth or matches), ``num_pairs`` and ``per_class`` (the same by name).
    """
    d, g = matches.pair_det, matches.pair_gt
    pairs = np.flatnonzero(
        (matches.det_class[d] == matches.gt_class[g])
        & (matches.pair_iou >= IOU_THRESHOLDS[0])
        & (matches.det_rank[d] < MAX_DETECTIONS)
        & ~matches.gt_crowd[g]
    )
    boundary = boundary_iou(matches.det_masks, matches.gt_masks, d[pairs], g[pairs])
    combined = matches.pair_iou.copy()
    combined[pairs] = np.minimum(combined[pairs], boundary)
    table = precision_table(match(matches, combined))[..., 0]

    is_match = matches.matched[0, 0][d[pairs]] == g[pairs]
    boundary, mask = boundary[is_match], matches.pair_iou[pairs][is_match]
    of_class = matches.gt_class[g[pairs]][is_match]

    def numbers(precision: np.ndarray, chosen: np.ndarray) -> dict:
        known = precision[:, :, precision[0, 0] > -1]
        return {
            "AP": 100 * float(known.mean()) if known.size else None,
            "AP50": 100 * float(known[0].mean()) if known.size else None,
            "mean_iou": 100 * float(boundary[chosen].mean()) if chosen.any() else None,
            "mask_mean_iou": 100 * float(mask[chosen].mean()) if chosen.any() else None,
            "num_pairs": int(chosen.sum()),
        }

    per_class = {name: numbers(table[:, :, [k]], of_class == k) for k, name in enumerate(matches.names)}
    return {**numbers(table, np.ones(len(boundary), dtype=bool)), "per_class": per_class}


def boundary_iou(
    first: Sequence[dict], second: Sequence[dict], first_index: np.ndarray, second_index: np.ndarray
) -> np.ndarray:
    """Boundary IoU of pairs of masks: |A_d and B_d| / |A_d or B_d|, A_d and B_d their boundaries.

    ``first``, ``second``: compressed RLEs; ``first_index``, ``second_index`` (P,) int: the pairs, each of one image
    size, those of an image together. Returns (P,) float, 0..1; 0 where both are empty.
    """
    result = np.zeros(len(first_index))
    if not len(first_index):
        return result
    used, second_used = np.unique(first_index), np.unique(second_index)
    boundaries = _Boundaries([first[i] for i in used])
    others = _Boundaries([second[i] for i in second_used])
    a, b = np.searchsorted(used, first_index), np.searchsorted(second_used, second_index)
    for p, (i, j) in enumerate(zip(a, b, strict=True)):
        result[p] = _crops_iou(*boundaries[i], *others[j])
    return result


class _Boundaries:
    """Boundaries of masks as (x, y) of their box and the crop, made when asked for; the last few are kept."""

    def __init__(self, rles: Sequence[dict]):
        self._runs, self._boxes = list(run_lengths(rles)), mask_util.toBbox(list(rles)).astype(int)
        self._sizes = [r["size"] for r in rles]
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        if i not in self._kept:
            if len(self._kept) > 500:
                self._kept.clear()
            height, width = self._sizes[i]
            self._kept[i] = self._boxes[i, :2], boundary_of(crop(self._runs[i], self._boxes[i], height), height, width)
        return self._kept[i]


def boundary_of(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels of a mask within 2 % of the image's diagonal (at least 1 pixel) from its outline.

    ``mask`` (W, H) uint8, 0 or 1, 0 all around it; ``height``, ``width`` of the image. Returns the same shape.
    """
    if not mask.size:
        return mask
    distance = max(1, round(DILATION_RATIO * float(np.hypot(height, width))))
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    return mask - cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def _crops_iou(a_at: np.ndarray, a: np.ndarray, b_at: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a_at, b_at), np.minimum(a_at + a.shape, b_at + b.shape)
    both = 0
    if (high > low).all():
        (x0, y0), (x1, y1) = low - a_at, high - a_at
        (u0, v0), (u1, v1) = low - b_at, high - b_at
        both = cv2.countNonZero(a[x0:x1, y0:y1] & b[u0:u1, v0:v1])
    union = cv2.countNonZero(a) + cv2.countNonZero(b) - both
    return both / union if union else 0.0
