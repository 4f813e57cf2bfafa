"""What is found in images that have nothing to find: most of a drive is such images."""

from __future__ import annotations

import numpy as np

from .matching import TaskMatches


def empty_images(matches: TaskMatches, confidence: float | None) -> dict:
    """Detections in images without any object of the task's classes, crowd regions included.

    ``confidence`` in 0..1; None (nothing chose one): nothing is counted. Returns ``images``, their number, and, None
    without a confidence, ``images_with_detections`` and ``detections``, at least at that confidence: all of them wrong.
    """
    empty = np.ones(len(matches.image_ids), dtype=bool)
    empty[matches.gt_image] = False
    result = {"images": int(empty.sum()), "images_with_detections": None, "detections": None}
    if confidence is None:
        return result
    # Beyond the 100 best of an image and class, a detection counts nowhere.
    counts = empty[matches.det_image] & (matches.det_score >= confidence) & ~matches.det_ignored[0, 0]
    found = matches.det_image[counts]
    return result | {"images_with_detections": len(np.unique(found)), "detections": len(found)}
