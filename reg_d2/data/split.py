"""Train, validation and test by group, with rare classes in every part."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .checks.run import Checked, refuse_errors

_MISSING = 10.0  # what a class that is missing from a part counts; all squared shares together count less
_NOTHING = 1e-9
_MOST_SWEEPS = 30


def groups_by_pattern(names: Sequence[str], pattern: str) -> list[str]:
    """The group of each file name: what the regular expression's first parentheses, or all of it, match.

    Raises:
        ValueError: the expression is none, or a name does not match.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    found = [expression.search(name) for name in names]
    if bad := [name for name, match in zip(names, found, strict=True) if match is None]:
        raise ValueError(f"{pattern!r} matches nothing in {len(bad)} file names, the first is {bad[0]!r}")
    return [match.group(1) if expression.groups else match.group() for match in found]


def groups_by_table(names: Sequence[str], path: str | os.PathLike) -> list[str]:
    """The group of each file name, from a CSV of two columns: file name, group.

    Raises:
        ValueError: a row without two cells, or a name that the table lacks.
    """
    with open(path, newline="", encoding="utf-8") as f:
        rows = [row for row in csv.reader(f) if row]
    if bad := next((row for row in rows if len(row) < 2), None):
        raise ValueError(f"{path}: row {bad}; expected file name, group")
    table = {row[0]: row[1] for row in rows}
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"{path} lacks {len(missing)} file names, the first is {missing[0]!r}")
    return [table[name] for name in names]


def split_groups(counts: np.ndarray, images: np.ndarray, shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Divide groups so that each part gets its share of the objects of each class, and of the images.

    Each group, largest first, goes to where it brings the shares nearest to what is wanted; then single groups are
    moved as long as that brings them nearer still. A class that is missing from a part counts more than any share,
    as far as it is in as many groups as there are parts.

    Args:
        counts: (G, C) int, objects of each class in each group.
        images: (G,) int, images of each group.
        shares: of each of the P parts, > 0; they are taken relative to their sum.
        seed: decides between groups of the same size.

    Returns:
        (G,) int, the part of each group.
    """
    share = np.array(shares, dtype=np.float64) / sum(shares)
    everything = np.column_stack([counts, images]).astype(np.float64)
    everything = everything[:, everything.any(0)]
    total = everything.sum(0)
    fraction = everything / total
    needed = (everything > 0).sum(0) >= len(share)

    def off(have: np.ndarray) -> float:
        """How far (P, C + 1) fractions are from what is wanted."""
        return ((have - share[:, None]) ** 2).sum() + _MISSING * ((have < _NOTHING) & needed).sum()

    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-fraction[order].max(1), kind="stable")]
    part = np.full(len(counts), -1)
    have = np.zeros((len(share), len(total)))
    for _ in range(_MOST_SWEEPS):
        moved = False
        for g in order:
            if part[g] >= 0:
                have[part[g]] -= fraction[g]
            tried = []
            for p in range(len(share)):
                have[p] += fraction[g]
                tried.append(off(have))
                have[p] -= fraction[g]
            best = int(np.argmin(tried))
            if part[g] < 0 or tried[best] < tried[part[g]] - _NOTHING:
                part[g], moved = best, True
            have[part[g]] += fraction[g]
        if not moved:
            break
    return part


def split_dataset(
    checked: Checked, group_of: Callable[[Sequence[str]], Sequence[str]], shares: Mapping[str, float], seed: int = 0
) -> dict[str, dict]:
    """Divide a checked COCO file; every image and object goes to exactly one part.

    Args:
        checked: the file.
        group_of: from file names to groups; images of one group stay together.
        shares: part name -> share > 0.
        seed: as of :func:`split_groups`.

    Returns:
        Part name -> COCO dict with all categories.

    Raises:
        ValueError: the file has errors (see ``tools/check_dataset.py``), a share is not above 0, or there are fewer
            groups than parts.
    """
    refuse_errors(checked)
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"shares are {dict(shares)}; expected numbers above 0")
    columns, content = checked.columns, checked.content
    names, group = np.unique(list(group_of(columns.file_names)), return_inverse=True)
    if len(names) < len(shares):
        raise ValueError(f"{len(names)} groups for {len(shares)} parts: {names.tolist()[:5]}")
    counts = np.zeros((len(names), len(columns.names)), dtype=np.int64)
    np.add.at(counts, (group[columns.image], columns.category), 1)
    part = split_groups(counts, np.bincount(group, minlength=len(names)), list(shares.values()), seed)
    result = {}
    for p, name in enumerate(shares):
        of_image = part[group] == p
        result[name] = {
            **content,
            "images": [content["images"][row] for row in columns.image_rows[of_image]],
            "annotations": [content["annotations"][row] for row in columns.annotation_rows[of_image[columns.image]]],
        }
    return result
