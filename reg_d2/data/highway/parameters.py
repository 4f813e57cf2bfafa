"""The parameters of the highway set: checked, and as the record that decides whether two sets are the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import plan

# Raise it with every change that alters a pixel or an annotation: it is part of what makes two sets the same.
GENERATOR_VERSION = 1
LEAST_SIZE, MOST_SIZE = 120, 4096


def parameters_record(
    *,
    train_images: int,
    val_images: int,
    size: tuple[int, int],
    scale: float,
    difficulty: float,
    counts: Mapping[str, int] | None,
    mask_counts: Mapping[str, int] | None,
    val_counts: Mapping[str, int] | None,
    val_floor: int,
    empty_share: float,
    seed: int,
    quality: int,
) -> dict:
    """Everything that decides the bytes of the set, as it goes into the files' info block.

    Args: those of ``make_highway``.

    Raises:
        ValueError: one of them is out of range.
    """
    for name, value in (("train_images", train_images), ("val_images", val_images)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if len(size) != 2 or not all(LEAST_SIZE <= n <= MOST_SIZE for n in size):
        raise ValueError(f"size is {tuple(size)}; expected (width, height), each {LEAST_SIZE}..{MOST_SIZE} pixels")
    if not 0.6 <= size[0] / size[1] <= 3.2:
        raise ValueError(f"size is {tuple(size)}; expected width / height between 0.6 and 3.2")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; expected a number above 0")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty is {difficulty}; expected a number in 0..1")
    if val_floor < 1:
        raise ValueError(f"val_floor is {val_floor}; expected 1 or more")
    if not 0 <= empty_share < 1:
        raise ValueError(f"empty_share is {empty_share}; expected a number in [0, 1)")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is {quality}; expected 1..100")
    if mask_counts is not None and counts is None:
        raise ValueError("mask_counts without counts; give both, or neither and a scale")
    boxes, masks = plan.scaled_counts(scale)
    if counts is not None:
        boxes = _of_every_class(counts)
        if mask_counts is None:
            shares = {name: plan.SEGMENTATION_COUNTS[name] / n for name, n in plan.DETECTION_COUNTS.items()}
            mask_counts = {name: round(boxes[name] * shares[name]) for name in plan.HIGHWAY_CLASSES}
        masks = _of_every_class(mask_counts)
        plan.check_counts(counts, mask_counts)
    if val_counts is None:
        val_boxes = plan.validation_counts(boxes, train_images, val_images, val_floor)
    else:
        plan.check_counts(val_counts, {})
        val_boxes = _of_every_class(val_counts)
    # Mask evaluation has to see every object of a mask class, and none of the others.
    val_masks = {name: n if plan.SEGMENTATION_COUNTS[name] else 0 for name, n in val_boxes.items()}
    # Named only where it is another one: sets of an earlier version stay the same set.
    empty = {} if empty_share == plan.EMPTY_SHARE else {"empty_share": float(empty_share)}
    return {
        "generator": "reg_d2.data.highway",
        "generator_version": GENERATOR_VERSION,
        "seed": int(seed),
        "difficulty": float(difficulty),
        "width": int(size[0]),
        "height": int(size[1]),
        "quality": int(quality),
        "images": {"train": int(train_images), "val": int(val_images)},
        "counts": {"train": boxes, "val": val_boxes},
        "mask_counts": {"train": masks, "val": val_masks},
        **empty,
    }


def _of_every_class(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: int(counts.get(name, 0)) for name in plan.HIGHWAY_CLASSES}
