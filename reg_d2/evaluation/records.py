"""Reading JSON, telling sound ids, boxes and masks from others, and refusing the others by name and number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from numbers import Integral, Real

import numpy as np

from ..data.checks.structure import MAX_ID  # what the data check lets pass can be measured
from .rle import run_lengths

SHOWN = 3
SHOWN_WIDTH = 200  # characters of each
FINITE = 1e30  # for any number of pixels, and a float32 can hold it
JSON_NUMBERS = {int, float}
LISTS = (list, tuple, np.ndarray)


def read_json(path: str | os.PathLike) -> dict | list:
    """Read a JSON file; ValueError that names the file and the place where it breaks off or is no JSON."""
    name = os.fspath(path)
    try:
        # Windows programs begin UTF-8 files with a byte order mark, which "-sig" skips.
        with open(path, encoding="utf-8-sig") as f:
            text = f.read()
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "it ends too early: was its writing or copying cut off?" if cut else "it is no JSON."
        raise ValueError(
            f"{name}: {what} ({error.msg} at character {error.pos} of {len(text)}); write it again"
        ) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of more than 4,300 digits, nested too deeply
        raise ValueError(f"{name}: it cannot be read as JSON in UTF-8 ({error}); write it again") from None


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Put the file's name before the message of a ValueError, where ``source`` is a path."""
    try:
        yield
    except ValueError as error:
        if isinstance(source, (str, os.PathLike)):
            raise ValueError(f"{os.fspath(source)}: {error}") from None
        raise


def refuse(bad: Sequence[bool], items: Sequence, kind: str, problem: str, way_out: str) -> None:
    """If any is bad: ValueError with the number of bad ``items``, the first of them, ``problem`` and ``way_out``."""
    found = np.flatnonzero(np.asarray(bad, dtype=bool))
    if found.size:
        first = ", ".join(short(items[i]) for i in found[:SHOWN])
        raise ValueError(f"{found.size} of {len(items)} {kind}: {problem}, first {first}; {way_out}")


def short(item: object) -> str:
    """A record as an error shows it: what tells it from others, without its mask."""
    if isinstance(item, Mapping):
        keys = ("id", "image_id", "category_id", "name", "height", "width", "iscrowd", "score", "score_std", "bbox")
        item = {k: item[k] for k in keys if k in item}
    text = str(item)
    return text if len(text) <= SHOWN_WIDTH else text[: SHOWN_WIDTH - 3] + "..."


def is_whole(value: object) -> bool:
    """Whether it can be an id: a whole number, also written 5.0."""
    whole = type(value) is int or isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return whole and -MAX_ID < value < MAX_ID


def are_numbers(values: object, limit: float = FINITE) -> bool:
    """Whether it is a list of finite numbers, none beyond ``limit``."""
    if not isinstance(values, LISTS):
        return False
    if not (JSON_NUMBERS.issuperset(map(type, values)) or all(isinstance(v, Real) for v in values)):
        return False
    low, high = min(values, default=0), max(values, default=0)
    # min and max may pass over a NaN, a sum does not.
    return -limit <= low and high <= limit and not isnan(sum(values))


def bad_boxes(boxes: Sequence, limit: float = FINITE) -> list[bool]:
    """Which boxes (x, y, width, height) are not four finite numbers up to ``limit``, or are of negative size."""
    return [not (are_numbers(b, limit) and len(b) == 4 and b[2] >= 0 and b[3] >= 0) for b in boxes]


def is_rle(mask: object) -> bool:
    """Whether it has the form of an RLE: size [height, width], and counts as text or as a list."""
    if not isinstance(mask, Mapping):
        return False
    size, counts = mask.get("size"), mask.get("counts")
    return (
        isinstance(size, LISTS)
        and len(size) == 2
        and all(is_whole(n) for n in size)
        and isinstance(counts, (str, bytes, *LISTS))
    )


def bad_runs(rles: Sequence[Mapping]) -> list[bool]:
    """Which RLEs (of ``is_rle``) are damaged: runs that cannot be read, are negative or do not fill the size."""
    bad = [not isinstance(r["counts"], (str, bytes)) and not _fills(r["counts"], r["size"]) for r in rles]
    text = [i for i, r in enumerate(rles) if isinstance(r["counts"], (str, bytes))]
    for i, runs in zip(text, run_lengths([rles[i] for i in text]), strict=True):
        height, width = rles[i]["size"]
        bad[i] = runs is None or bool((runs < 0).any()) or int(runs.sum()) != height * width
    return bad


def _fills(runs: Sequence, size: Sequence[int]) -> bool:
    whole = all(issubclass(t, Integral) for t in set(map(type, runs)))
    return whole and min(runs, default=0) >= 0 and sum(runs) == size[0] * size[1]
