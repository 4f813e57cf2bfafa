"""COCO's greedy matching at one IoU threshold, on the IoUs that the COCO evaluator has computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from .operating_point import ClassMatches


def match_image(ious: np.ndarray, ignore: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Match one image's detections of one class to its ground truth, as COCO does.

    In order of score each detection takes the free object of highest IoU >= threshold; only where there is none it
    takes an ignored one (crowd), which may be taken again. Of equal IoUs the last object wins.

    ``ious`` (D, G) float, rows by descending score; ``ignore`` (G,) bool. Returns (D,) int: index of the object, or
    -1. Source: pycocotools 2.0 ``COCOeval.evaluateImg``; held to it by a test.
    """
    matched = np.full(len(ious), -1)
    free = np.ones(len(ignore), dtype=bool)
    for d in np.flatnonzero((ious >= threshold).any(axis=1)):
        candidates = free & (ious[d] >= threshold)
        if (candidates & ~ignore).any():
            candidates &= ~ignore
        if not candidates.any():
            continue
        best = np.where(candidates, ious[d], -1.0)
        g = len(best) - 1 - int(best[::-1].argmax())
        matched[d] = g
        free[g] = ignore[g]
    return matched


def class_matches(
    annotations: Iterable[Mapping],
    detections: Iterable[Mapping],
    ious: Mapping[tuple[int, int], np.ndarray],
    category_ids: Iterable[int],
    *,
    max_detections: int = 100,
    threshold: float = 0.5,
) -> dict[int, ClassMatches]:
    """Match all images, class by class; detections matched to ignored ground truth are left out.

    ``annotations``: dicts with image_id, category_id, iscrowd, in the evaluator's order; ``detections``: dicts with
    image_id, category_id, score; ``ious``: (image_id, category_id) -> (D, G), the evaluator's, rows by descending
    score (ties in the order given) and cut at ``max_detections``, empty where either side is. Returns category id ->
    ClassMatches.
    """
    ignore, scores = defaultdict(list), defaultdict(list)
    for ann in annotations:
        ignore[ann["image_id"], ann["category_id"]].append(bool(ann["iscrowd"]))
    for det in detections:
        scores[det["image_id"], det["category_id"]].append(det["score"])

    kept = {c: ([], []) for c in category_ids}
    for (image, category), unsorted in scores.items():
        top = -np.sort(-np.asarray(unsorted, dtype=float))[:max_detections]
        crowd = np.asarray(ignore.get((image, category), []), dtype=bool)
        matched = np.full(len(top), -1)
        if len(crowd):
            matched = match_image(np.asarray(ious[image, category]), crowd, threshold)
        counts = (matched < 0) | ~np.append(crowd, False)[matched]
        kept[category][0].append(top[counts])
        kept[category][1].append(matched[counts] >= 0)

    num_gt = dict.fromkeys(kept, 0)
    for (_, category), flags in ignore.items():
        num_gt[category] += len(flags) - sum(flags)
    return {
        c: ClassMatches(np.concatenate([np.empty(0), *s]), np.concatenate([np.empty(0, dtype=bool), *t]), num_gt[c])
        for c, (s, t) in kept.items()
    }
