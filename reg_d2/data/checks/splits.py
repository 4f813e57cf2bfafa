"""What must hold between the splits of one data set: the same classes, and no picture in two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .findings import Finding
from .images import ImageFacts
from .structure import Columns

NEAR = 10  # of 128 bits may differ between near-duplicates
_BLOCK = 1024


def check_classes(first: Columns, second: Columns) -> list[Finding]:
    """The two class lists: the same names, in the same order."""
    missing = [name for name in first.names if name not in second.names]
    extra = [name for name in second.names if name not in first.names]
    if missing or extra:
        detail = f"only the first has {missing or 'none'}, only the second {extra or 'none'}"
        return [Finding("classes_differ", ids=missing + extra, detail=detail)]
    by_id = [dict(zip(c.names, c.category_ids, strict=True)) for c in (first, second)]
    moved = [name for name in first.names if by_id[0][name] != by_id[1][name]]
    if moved or first.names != second.names:
        return [Finding("classes_order", ids=moved or first.names)]
    return []


def check_same_files(first: Columns, second: Columns, folders: tuple[Path, Path]) -> list[Finding]:
    """File names of both splits that are the same path; nothing is opened."""
    pairs = zip((first, second), folders, strict=True)
    paths = [{str(Path(folder, name)): name for name in columns.file_names} for columns, folder in pairs]
    both = sorted(paths[0].keys() & paths[1].keys())
    return [Finding("image_in_two_splits", ids=[paths[0][p] for p in both])] if both else []


def check_same_pictures(first: dict[str, ImageFacts], second: dict[str, ImageFacts]) -> list[Finding]:
    """Pictures that are in both splits, byte by byte or nearly so; facts by file name."""
    digests = {fact.digest: name for name, fact in second.items() if fact.digest}
    same = {name: digests[fact.digest] for name, fact in first.items() if fact.digest in digests}
    findings = []
    if same:
        findings.append(Finding("image_in_two_splits", ids=[f"{a} = {b}" for a, b in same.items()]))
    taken = set(same.values())
    a = [(name, fact.hash) for name, fact in first.items() if fact.hash is not None and name not in same]
    b = [(name, fact.hash) for name, fact in second.items() if fact.hash is not None and name not in taken]
    if a and b:
        pairs = near_pairs(np.stack([h for _, h in a]), np.stack([h for _, h in b]))
        if len(pairs):
            ids = [f"{a[i][0]} ~ {b[j][0]}" for i, j, _ in pairs]
            detail = (
                f"{len({j for _, j, _ in pairs.tolist()})} pictures of the second are like {len(pairs)} of the first"
            )
            findings.append(Finding("image_near_duplicate", ids=ids, detail=detail))
    return findings


def near_pairs(a: np.ndarray, b: np.ndarray, limit: int = NEAR) -> np.ndarray:
    """For each hash of ``a`` that has one in ``b`` within ``limit`` bits, the nearest.

    Args:
        a, b: (N, K), (M, K) bool.

    Returns:
        (k, 3) int: index in a, index in b, bits that differ; nearest first.
    """
    signs = np.where(b, np.float32(1), np.float32(-1)).T
    rows = []
    for start in range(0, len(a), _BLOCK):
        # The product of +-1 vectors is the bits that agree less those that do not.
        product = np.where(a[start : start + _BLOCK], np.float32(1), np.float32(-1)) @ signs
        nearest = product.argmax(1)
        differ = (a.shape[1] - product[np.arange(len(product)), nearest]) / 2
        for i in np.flatnonzero(differ <= limit):
            rows.append((start + i, nearest[i], differ[i]))
    found = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return found[np.argsort(found[:, 2], kind="stable")]
