"""Visible pixels to COCO segmentations that decode to exactly those pixels."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask

# A polygon with more corners than this is longer than its run lengths.
MAX_CORNERS = 100


def encode(mask: np.ndarray):
    """(H, W) bool -> a COCO `segmentation` whose decoded mask equals it pixel for pixel.

    One piece without holes and with few corners becomes a polygon along the pixels' edges; all else is a compressed
    run-length dict with `counts` as str.
    """
    polygon = _outline(mask)
    if polygon is not None:
        height, width = mask.shape
        decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([polygon], height, width)))
        if np.array_equal(decoded.astype(bool), mask):
            return [polygon]
    run = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in run["size"]], "counts": run["counts"].decode("ascii")}


def tight_box(mask: np.ndarray) -> list[float]:
    """[x, y, width, height] in pixels: the mask's outermost pixel edges."""
    return [float(n) for n in cv2.boundingRect(mask.view(np.uint8))]


def _outline(mask: np.ndarray) -> list[float] | None:
    """The pixel-edge outline [x0, y0, x1, y1, ...] of a mask in one piece, or None where it is not that simple."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    piece = np.pad(mask[y : y + h, x : x + w], 1).astype(np.int8)
    # Corners of the outline: where the 2 x 2 pixels around a grid point are one or three (four in total: none or all).
    quad = piece[:-1, :-1] + piece[:-1, 1:] + piece[1:, :-1] + piece[1:, 1:]
    diagonal = (quad == 2) & (piece[:-1, :-1] == piece[1:, 1:])
    rows, columns = np.nonzero((quad == 1) | (quad == 3))
    if diagonal.any() or not 4 <= len(rows) <= MAX_CORNERS:
        return None
    # Along each grid row, corners pair up in order as the ends of horizontal edges; likewise down each column.
    points = list(zip(columns.tolist(), rows.tolist(), strict=True))
    across = _pairs(sorted(points, key=lambda p: (p[1], p[0])))
    down = _pairs(sorted(points))
    start = points[0]
    path, at, horizontal = [], start, True
    while True:
        path += [float(at[0] + x), float(at[1] + y)]
        at = (across if horizontal else down)[at]
        horizontal = not horizontal
        if at == start:
            break
    return path if len(path) == 2 * len(points) else None  # shorter: there are holes or more pieces


def _pairs(points: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
    partner = {}
    for a, b in zip(points[::2], points[1::2], strict=True):
        partner[a], partner[b] = b, a
    return partner
