"""COCO's run-length masks as runs and as small crops: what pycocotools has only as masks of the full image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pycocotools.mask as mask_util

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

    None for a string that is no RLE (characters outside COCO's alphabet, or cut within a number). Whether the runs
    fill the image is not checked. Source: the format of ``rleToString`` in cocoapi (5 bits a character, the sixth
    says that more follow, from the fourth number on the difference to the number before the last).
    """
    for start in range(0, len(rles), CHUNK):
        texts = [r["counts"] for r in rles[start : start + CHUNK]]
        yield from _decode([t.encode("latin-1", "replace") if isinstance(t, str) else t for t in texts])


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


def _decode(texts: Sequence[bytes]) -> list[np.ndarray | None]:
    lengths = np.array([len(t) for t in texts])
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    if not codes.size:
        return [None] * len(texts)
    text = np.repeat(np.arange(len(texts)), lengths)
    bad = lengths == 0
    bad[text[(codes < 0) | (codes > 63)]] = True
    final = (codes & 32) == 0
    text_end = np.cumsum(lengths)[lengths > 0] - 1
    bad[text[text_end]] |= ~final[text_end]
    # A number ends with its text at the latest, so that a bad text cannot spoil the next.
    final[text_end] = True

    first = np.flatnonzero(np.concatenate([[True], final[:-1]]))
    place = np.arange(codes.size) - np.repeat(first, np.diff(first, append=codes.size))
    bad[text[place > 10]] = True  # longer than any 64-bit number
    place = np.minimum(place, 10)
    numbers = np.add.reduceat((codes & 31) << (5 * place), first)
    last = np.append(first[1:], codes.size) - 1
    numbers -= np.where(codes[last] & 16, np.int64(1) << (5 * (place[last] + 1)), 0)

    owner = text[first]
    counts = np.bincount(owner, minlength=len(texts))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    index = np.arange(numbers.size) - offsets[owner]
    for parity in (0, 1):  # each number is the difference to the one before the last; the first three are as they are
        where = np.flatnonzero((index % 2 == parity) & (index > 0))
        total = np.cumsum(numbers[where])
        begins = index[where] == 2 - parity
        base = np.where(begins, total - numbers[where], 0)
        numbers[where] = total - base[np.maximum.accumulate(np.where(begins, np.arange(where.size), 0))]
    return [None if bad[i] else numbers[offsets[i] : offsets[i + 1]] for i in range(len(texts))]
