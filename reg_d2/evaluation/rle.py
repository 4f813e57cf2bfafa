"""COCO's run-length masks as runs and as small crops: what pycocotools has only as masks of the full image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pycocotools.mask as mask_util

from ..data.checks.rle import string_runs

CHUNK = 2000


def to_rle(segmentation: Mapping | Sequence, height: int, width: int) -> dict:
    """One compressed RLE from polygons, uncompressed or compressed RLE; ``height``, ``width`` of the image, pixels."""
    if isinstance(segmentation, Mapping):
        if isinstance(segmentation["counts"], (str, bytes)):
            return dict(segmentation)
        return mask_util.frPyObjects(dict(segmentation), height, width)
    return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))


def run_lengths(rles: Sequence[Mapping]) -> Iterator[np.ndarray | None]:
    """The runs of compressed RLEs, one int64 array each: background, object, background, ... down the columns.

    None for a string that is no RLE (empty, characters outside COCO's alphabet, or cut within a number). Whether the
    runs fill the image is not checked.
    """
    for start in range(0, len(rles), CHUNK):
        texts = [r["counts"] for r in rles[start : start + CHUNK]]
        texts = [t.encode("latin-1", "replace") if isinstance(t, str) else t for t in texts]
        runs, owner, sound = string_runs(texts)
        ends = np.cumsum(np.bincount(owner, minlength=len(texts)))
        of_each = np.split(runs, ends[:-1])
        yield from (x if good and len(x) else None for x, good in zip(of_each, sound, strict=True))


def crop(runs: np.ndarray, box: Sequence[float], height: int) -> np.ndarray:
    """The part of a mask inside a box.

    ``runs`` of ``run_lengths``; ``box`` (x, y, w, h) whole pixels inside the image, as of ``pycocotools.mask.toBbox``;
    ``height`` of the image. Returns (w, h) uint8, 0 or 1: transposed, since RLE goes down the columns.
    """
    x, y, w, h = (int(v) for v in box)
    ends = np.cumsum(runs) - x * height
    np.minimum(np.maximum(ends, 0, out=ends), w * height, out=ends)
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    values = (np.arange(len(runs)) & 1).astype(np.uint8)
    return np.repeat(values, lengths).reshape(w, height)[:, y : y + h]
