"""COCO's run-length masks, many at a time and without decoding any: whether they are sound, their areas and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

_LONGEST = 7  # bytes of one number in a sound string: 35 bits


def string_runs(strings: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run lengths of compressed RLE strings.

    Source: the format of ``rleToString`` in cocoapi: numbers of five bits a byte, low first, the sixth says that more
    follow; each from the fourth on relative to the one two before it.

    Args:
        strings: M byte strings.

    Returns:
        ``runs``: (S,) int64, all runs; ``owner``: (S,) int, the string of each; ``sound``: (M,) bool, False where a
        byte is none of the format's or a number does not end.
    """
    lengths = np.array([len(s) for s in strings], dtype=np.int64)
    data = np.frombuffer(b"".join(strings), dtype=np.uint8).astype(np.int64) - 48
    owner = np.repeat(np.arange(len(strings)), lengths)
    sound = np.ones(len(strings), dtype=bool)
    sound[owner[(data < 0) | (data > 63)]] = False
    last = (data & 32) == 0
    ends = np.cumsum(lengths) - 1
    sound[(lengths > 0) & ~np.append(last, True)[np.where(lengths > 0, ends, -1)]] = False
    # An unsound string must not shift the numbers of the next one.
    last[ends[lengths > 0]] = True
    if not len(data):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), sound
    starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
    size = np.diff(np.append(starts, len(data)))
    place = np.arange(len(data)) - np.repeat(starts, size)
    number_owner = owner[starts]
    sound[number_owner[size > _LONGEST]] = False
    values = np.add.reduceat((data & 31) << (5 * np.minimum(place, _LONGEST)), starts)
    negative = (data[starts + size - 1] & 16) != 0
    values -= np.where(negative, np.left_shift(1, 5 * np.minimum(size, _LONGEST)), 0)
    return _undo_differences(values, number_owner), number_owner, sound


def _undo_differences(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    place = np.arange(len(values)) - _first(owner)
    runs = values.copy()
    for parity, start in ((1, 1), (0, 2)):
        chosen = np.flatnonzero((place % 2 == parity) & (place >= start))
        if len(chosen):
            total = np.cumsum(values[chosen])
            begin = _first(owner[chosen])
            runs[chosen] = total - np.where(begin > 0, total[begin - 1], 0)
    return runs


def list_runs(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of uncompressed RLEs, which hold whole numbers below 2^53: ``runs`` and ``owner`` as above."""
    owner = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    return np.array(list(chain.from_iterable(lists)), dtype=np.int64), owner


def run_statistics(
    runs: np.ndarray, owner: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What run lengths say of their masks.

    Args:
        runs: (S,) int64, column by column from the background on; sorted by ``owner``, (S,) int in [0, M).
        heights, widths: (M,) int, pixels.

    Returns:
        ``sound``: (M,) bool, no run is negative and together they fill height * width; ``area``: (M,) int64, pixels;
        ``boxes``: (M, 4) float64, x1 y1 x2 y2 at the pixels' outer edges, NaN for an unsound or empty mask.
    """
    number = len(heights)
    sound = np.ones(number, dtype=bool)
    sound[owner[(runs < 0) | (runs > heights[owner] * widths[owner])]] = False
    runs = np.where(sound[owner], runs, 0)
    sound &= np.bincount(owner, runs, number) == heights * widths
    end = np.cumsum(runs)
    first = _first(owner)
    end -= np.where(first > 0, end[first - 1], 0)
    chosen = ((np.arange(len(runs)) - first) % 2 == 1) & (runs > 0) & sound[owner]
    of, stop, length = owner[chosen], end[chosen], runs[chosen]
    area = np.bincount(of, length, number).astype(np.int64)
    boxes = np.full((number, 4), np.nan)
    if len(of):
        start, height = stop - length, heights[of]
        left, right = start // height, (stop - 1) // height
        one = left == right  # a run that goes on in the next column covers both edges
        top, bottom = np.where(one, start % height, 0), np.where(one, (stop - 1) % height, height - 1)
        begin = np.flatnonzero(np.append(True, of[1:] != of[:-1]))
        sides = ((np.minimum, left), (np.minimum, top), (np.maximum, right + 1), (np.maximum, bottom + 1))
        boxes[of[begin]] = np.stack([ufunc.reduceat(value, begin) for ufunc, value in sides], axis=1)
    return sound, area, boxes


def _first(owner: np.ndarray) -> np.ndarray:
    """(S,) position of the first element of each element's group; ``owner`` is sorted."""
    if not len(owner):
        return owner
    new = np.append(True, owner[1:] != owner[:-1])
    return np.flatnonzero(new)[np.cumsum(new) - 1]
