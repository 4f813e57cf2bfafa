"""Boxes against their images, and objects that are there twice."""

from __future__ import annotations

import numpy as np

from .findings import Finding
from .structure import Columns

TOLERANCE = 1.0  # px beyond the image's edge that rounding may cause
# When boxes are taken for corners: at least so many, so read (nearly) all fit, as they are so many leave the image.
_XYXY_LEAST, _XYXY_FIT, _XYXY_STICK = 5, 0.99, 0.2


def check_boxes(columns: Columns, has_mask: np.ndarray) -> list[Finding]:
    """Boxes that are empty, beyond the image, or doubled; ``has_mask``: (A,) bool.

    Where the file's boxes seem to be corners, that is the one finding: the others mean nothing before it is mended.
    """
    boxes, (width, height) = columns.boxes, columns.sizes[columns.image].T
    if detail := _seem_corners(boxes, width, height):
        return [columns.finding("boxes_xyxy", np.arange(len(boxes)), detail)]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    size = np.stack([width, height], axis=1)
    empty = (boxes[:, 2:] <= 0).any(1)
    outside = ~empty & ((high <= 0) | (low >= size)).any(1)
    sticks = ~empty & ~outside & ((low < -TOLERANCE) | (high > size + TOLERANCE)).any(1)
    kinds = {"box_not_positive": empty, "box_outside": outside, "box_sticks_out": sticks}
    kinds["annotation_duplicate"] = _repeated(columns, has_mask)
    return [columns.finding(kind, where) for kind, where in kinds.items() if where.any()]


def check_annotation_ids(columns: Columns) -> list[Finding]:
    """Ids of annotations that are missing, 0, or there twice."""
    bad, zero, repeated, seen = [], [], [], set()
    for i, number in enumerate(columns.annotation_ids):
        if type(number) is not int or abs(number) >= 2**53:
            bad.append(i)
        elif number in seen:
            repeated.append(i)
        elif number == 0:
            zero.append(i)
        if type(number) is int:
            seen.add(number)
    kinds = (("annotation_id", bad), ("annotation_id_zero", zero), ("annotation_id_duplicate", repeated))
    return [columns.finding(kind, np.array(where, dtype=np.int64)) for kind, where in kinds if where]


def check_counts(columns: Columns, has_mask: np.ndarray) -> list[Finding]:
    """What is counted and not wrong, and classes or files without objects; ``has_mask``: (A,) bool."""
    findings = []
    number = len(columns.names)
    objects = np.bincount(columns.category[~columns.crowd], minlength=number)
    masks = np.bincount(columns.category[~columns.crowd & has_mask], minlength=number)
    if not len(columns.annotation_rows):
        findings.append(Finding("annotations_none", count=1))
    if unused := [i for i in range(number) if objects[i] == 0]:
        rows = [columns.category_rows[i] for i in unused]
        findings.append(Finding("category_unused", rows, [columns.names[i] for i in unused]))
    ids = sorted(columns.category_ids)
    if ids and ids != list(range(ids[0], ids[0] + len(ids))):
        findings.append(Finding("category_gap", ids=ids, count=ids[-1] - ids[0] + 1 - len(ids)))
    if columns.crowd.any():
        findings.append(columns.finding("crowd", columns.crowd))
    if (box_only := ~has_mask & ~columns.crowd).any():
        parts = [f"{columns.names[i]} {objects[i] - masks[i]} of {objects[i]}" for i in range(number)]
        detail = "by class: " + ", ".join(p for i, p in enumerate(parts) if objects[i] > masks[i])
        findings.append(columns.finding("box_only", box_only, detail))
    empty = np.setdiff1d(np.arange(len(columns.image_ids)), columns.image)
    if len(empty):
        findings.append(Finding("image_empty", columns.image_rows[empty], columns.image_ids[empty].tolist()))
    return findings


def _seem_corners(boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> str:
    """Why the boxes seem to be x1 y1 x2 y2; empty where they do not."""
    if len(boxes) < _XYXY_LEAST:
        return ""
    x1, y1, x2, y2 = boxes.T
    inside = (x1 >= -TOLERANCE) & (y1 >= -TOLERANCE) & (x2 <= width + TOLERANCE) & (y2 <= height + TOLERANCE)
    fit = (inside & (x2 > x1) & (y2 > y1)).mean()
    stick = ((x1 + x2 > width + TOLERANCE) | (y1 + y2 > height + TOLERANCE)).mean()
    if fit < _XYXY_FIT or stick < _XYXY_STICK:
        return ""
    return f"read as corners {fit:.0%} fit their images; as x y width height {stick:.0%} leave them"


def _repeated(columns: Columns, has_mask: np.ndarray) -> np.ndarray:
    """(A,) bool: objects with the image, class, crowd flag and box of an earlier one, or of one with a mask."""
    order = np.argsort(~has_mask, kind="stable")
    key = np.column_stack([columns.image, columns.category, columns.crowd, columns.boxes])[order]
    _, first = np.unique(key, axis=0, return_index=True)
    result = np.ones(len(key), dtype=bool)
    result[order[first]] = False
    return result
