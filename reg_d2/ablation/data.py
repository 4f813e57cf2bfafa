"""A study's data: made by its command, and known by a fingerprint."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from detectron2.config import CfgNode

from ..data.catalog import CatalogEntry, dataset_root, find_entries, read_catalog
from .study import Dataset


def make_command(dataset: Dataset) -> list[str]:
    """The command that makes a data set's data; empty where it is just there."""
    return [sys.executable, *dataset.make] if dataset.make else []


def data_files(cfg: CfgNode) -> tuple[tuple[str, Path], ...]:
    """(name, COCO file) of each data set of a config, be the file there or not; () where its catalogue is elsewhere.

    Raises:
        KeyError: a name that the catalogue lacks.
    """
    try:
        catalog = _catalog(cfg.DATASETS.CATALOG, dataset_root())
    except FileNotFoundError:
        return ()
    entries = find_entries(catalog, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    return tuple((source.name, source.json) for entry in entries for source in entry.sources)


def fingerprints(files: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Name of each of ``data_files`` -> 12 hexadecimal digits of its file's SHA-256; of files that exist."""
    found = {}
    for name, path in files:
        with suppress(FileNotFoundError, NotADirectoryError):
            found[name] = _digest(path, path.stat().st_mtime_ns)
    return found


@lru_cache
def _catalog(path: str, root: Path) -> dict[str, CatalogEntry]:
    # The root is in the entries' paths.
    return read_catalog(path)


@lru_cache
def _digest(path: Path, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
