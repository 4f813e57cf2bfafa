"""What is in a data set: counts, sizes, places, neighbours, and what follows for the configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..losses.class_balance import SCHEMES, class_weights, imbalance_ratio
from ..losses.refinement import box_class_distance
from .checks import Checked

HEAT_MAP = 24  # cells along each side of the image
COCO_SIZES = (32**2, 96**2)  # px^2: small below the first, large from the second on
PERCENTILES = (5, 25, 50, 75, 95)
ROIS_PER_IMAGE = 64  # background regions drawn in each image
MOST_ROI_IMAGES = 1000
ANCHORS_PER_LEVEL = 5  # a feature pyramid of five levels has one size each
_BACKGROUND_IOU = 0.5  # below it with every object a region is background


@dataclass(frozen=True)
class Objects:
    """The objects of one or more files that are no crowds, M of them; classes by name, in the first file's order.

    Attributes:
        names: C class names.
        boxes: (M, 4) float64, x1 y1 x2 y2 in pixels, clipped to the image.
        category: (M,) int in [0, C).
        image: (M,) int in [0, N).
        has_mask: (M,) bool.
        sizes: (N, 2) int, width and height of each image.
    """

    names: tuple[str, ...]
    boxes: np.ndarray
    category: np.ndarray
    image: np.ndarray
    has_mask: np.ndarray
    sizes: np.ndarray


def gather(checked: Sequence[Checked]) -> Objects:
    """The sound objects of checked files; those with an empty box are left out, as in training.

    Raises:
        ValueError: there are none.
    """
    names = tuple(dict.fromkeys(name for c in checked for name in c.columns.names))
    parts, offset = [], 0
    for c in checked:
        columns = c.columns
        size = columns.sizes[columns.image]
        boxes = np.concatenate([columns.boxes[:, :2], columns.boxes[:, :2] + columns.boxes[:, 2:]], axis=1)
        boxes = np.clip(boxes, 0, np.tile(size, 2))
        keep = ~columns.crowd & (boxes[:, 2:] > boxes[:, :2]).all(1)
        index = np.array([names.index(name) for name in columns.names], dtype=np.int64)
        category = index[columns.category] if len(index) else columns.category
        parts.append((boxes[keep], category[keep], columns.image[keep] + offset, c.masks.usable[keep], columns.sizes))
        offset += len(columns.sizes)
    objects = Objects(names, *(np.concatenate(column) for column in zip(*parts, strict=True)))
    if not len(objects.boxes):
        raise ValueError("there are no objects to analyse: see tools/check_dataset.py")
    return objects


def analyse(objects: Objects, *, metric: str = "center", seed: int = 0) -> dict:
    """Everything that ``tools/analyze_dataset.py`` writes, as plain types.

    Args:
        objects: of :func:`gather`.
        metric: between which points E4's distance is measured, ``center`` or ``edge``.
        seed: of the drawn background regions.
    """
    return {
        "images": len(objects.sizes),
        "objects": len(objects.boxes),
        "classes": _classes(objects),
        "imbalance_ratio": {
            task: _finite(imbalance_ratio(counts))
            for task, counts in (("box", _counts(objects)), ("mask", _masks(objects)))
        },
        "class_weights": _weights(objects),
        "sizes": _sizes(objects),
        "objects_per_image": _per_image(objects),
        "heat_maps": {n: heat_map(objects, c).tolist() for c, n in enumerate(objects.names)},
        "co_occurrence": co_occurrence(objects).tolist(),
        "background_distance": background_distance(objects, metric, seed),
        "suggested": suggestions(objects),
    }


def _counts(objects: Objects) -> np.ndarray:
    return np.bincount(objects.category, minlength=len(objects.names))


def _masks(objects: Objects) -> np.ndarray:
    """Counts of the classes that have masks."""
    counts = np.bincount(objects.category[objects.has_mask], minlength=len(objects.names))
    return counts[counts > 0]


def _finite(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _percentiles(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {f"p{p}": _finite(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _classes(objects: Objects) -> dict[str, dict]:
    masks = np.bincount(objects.category[objects.has_mask], minlength=len(objects.names))
    images = [len(np.unique(objects.image[objects.category == c])) for c in range(len(objects.names))]
    rows = zip(objects.names, _counts(objects).tolist(), masks.tolist(), images, strict=True)
    return {name: {"objects": n, "masks": m, "images": i} for name, n, m, i in rows}


def _weights(objects: Objects) -> dict[str, dict[str, dict[str, float]]]:
    """Task -> scheme -> class -> weight to mean 1 (E10); over the classes that the task has."""
    result = {}
    masks = np.bincount(objects.category[objects.has_mask], minlength=len(objects.names))
    for task, counts in (("box", _counts(objects)), ("mask", masks)):
        there = np.flatnonzero(counts)
        names = [objects.names[c] for c in there]
        if names:
            weights = {s: class_weights(counts[there].tolist(), s, True, names=names) for s in SCHEMES}
            result[task] = {s: {n: _finite(v) for n, v in zip(names, w, strict=True)} for s, w in weights.items()}
    return result


def _sizes(objects: Objects) -> dict[str, dict]:
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).T
    result = {}
    for c, name in enumerate(objects.names):
        at = objects.category == c
        area = width[at] * height[at]
        small, large = (area < COCO_SIZES[0]).sum(), (area >= COCO_SIZES[1]).sum()
        result[name] = {
            "side": _percentiles(np.sqrt(area)),
            "width": _percentiles(width[at]),
            "height": _percentiles(height[at]),
            "aspect_ratio": _percentiles(height[at] / width[at]),
            "small": int(small),
            "medium": int(at.sum() - small - large),
            "large": int(large),
        }
    return result


def _per_image(objects: Objects) -> dict:
    counts = np.bincount(objects.image, minlength=len(objects.sizes))
    return {
        "mean": _finite(counts.mean()),
        "max": int(counts.max()),
        "without": int((counts == 0).sum()),
        "histogram": np.bincount(counts).tolist(),
    }


def heat_map(objects: Objects, category: int) -> np.ndarray:
    """(24, 24) int: how many centres of a class's boxes lie in each cell of the image, rows from the top."""
    at = objects.category == category
    centers = (objects.boxes[at, :2] + objects.boxes[at, 2:]) / 2 / objects.sizes[objects.image[at]]
    cells = np.minimum((centers * HEAT_MAP).astype(np.int64), HEAT_MAP - 1)
    return np.bincount(cells[:, 1] * HEAT_MAP + cells[:, 0], minlength=HEAT_MAP**2).reshape(HEAT_MAP, HEAT_MAP)


def co_occurrence(objects: Objects) -> np.ndarray:
    """(C, C) int: the number of images that show both classes; on the diagonal, that show the class."""
    there = np.zeros((len(objects.sizes), len(objects.names)), dtype=np.int64)
    there[objects.image, objects.category] = 1
    return there.T @ there


def background_distance(objects: Objects, metric: str, seed: int) -> dict:
    """How far background regions are from objects, in image diagonals (E4): what beta and delta act on.

    Regions are drawn at random over the image with the sizes of the data set's own objects; those that overlap an
    object by half or more are no background. For each class the distance is taken in the images that show it.
    """
    rng = np.random.default_rng(seed)
    shape = (objects.boxes[:, 2:] - objects.boxes[:, :2]) / objects.sizes[objects.image]
    images = np.unique(objects.image)
    if len(images) > MOST_ROI_IMAGES:
        images = np.sort(rng.choice(images, MOST_ROI_IMAGES, replace=False))
    order = np.argsort(objects.image, kind="stable")
    starts = np.searchsorted(objects.image[order], [images, images + 1])
    found = []
    for image, start, stop in zip(images, *starts, strict=True):
        size = objects.sizes[image]
        extent = shape[rng.integers(0, len(shape), ROIS_PER_IMAGE)] * size
        low = rng.random((ROIS_PER_IMAGE, 2)) * (size - extent)
        rois = np.concatenate([low, low + extent], axis=1)
        at = order[start:stop]
        rois = rois[_overlap(rois, objects.boxes[at]).max(1) < _BACKGROUND_IOU]
        args = (torch.from_numpy(rois), torch.from_numpy(objects.boxes[at]), torch.from_numpy(objects.category[at]))
        found.append(box_class_distance(*args, len(objects.names), (int(size[1]), int(size[0])), metric).numpy())
    distance = np.concatenate(found)
    nearest = distance.min(1)
    return {
        "metric": metric,
        "regions": len(distance),
        "any": _percentiles(nearest),
        "histogram": np.histogram(nearest, bins=40, range=(0, 1))[0].tolist(),
        "classes": {n: _percentiles(d[np.isfinite(d)]) for n, d in zip(objects.names, distance.T, strict=True)},
    }


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) IoU of boxes (N, 4) and (M, 4), x1 y1 x2 y2."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = size.clip(min=0).prod(2)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)


def suggestions(objects: Objects) -> dict:
    """Keys that follow from the data.

    Anchor sizes (px of the pictures as they are: scale them with ``INPUT.MIN_SIZE_TRAIN``): the 10th to 90th
    percentile of the boxes' sides in five steps, one a pyramid level, smallest first. Aspect ratios (height / width):
    the 10th, 50th and 90th percentile. Repeat threshold: the median over the classes of the share of images that show
    the class, so that the rarer half of the classes is repeated:
    ``DATALOADER.SAMPLING.THRESHOLD`` for our sampler, ``DATALOADER.REPEAT_THRESHOLD`` for Detectron2's.
    """
    width, height = (objects.boxes[:, 2:] - objects.boxes[:, :2]).T
    low, high = np.percentile(np.log(np.sqrt(width * height)), (10, 90))
    sides = np.exp(np.linspace(low, high, ANCHORS_PER_LEVEL))
    ratios = np.percentile(height / width, (10, 50, 90))
    share = np.diag(co_occurrence(objects)) / len(objects.sizes)
    threshold = float(np.median(share[share > 0]))
    repeats = np.maximum(1.0, np.sqrt(threshold / np.where(share > 0, share, 1.0)))
    return {
        "MODEL.ANCHOR_GENERATOR.SIZES": [[round(float(s), 1)] for s in sides],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[round(float(r), 2) for r in ratios]],
        "DATALOADER.SAMPLING.THRESHOLD": round(threshold, 4),
        "DATALOADER.REPEAT_THRESHOLD": round(threshold, 4),
        "repeat_factors": {n: round(float(r), 2) for n, r in zip(objects.names, repeats, strict=True)},
    }
