"""The JSON itself: it is parsed and its records are checked, trusting nothing; what is sound comes out as arrays."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from .findings import Finding

MAX_ID = 2**53  # beyond it a float64 no longer tells neighbours apart
MAX_COORDINATE = 1e6  # px; pycocotools walks along a polygon pixel by pixel and crashes beyond
MAX_PIXELS = 178_956_970  # Pillow refuses larger pictures as decompression bombs
UNUSABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of surrogate pairs, breaks of lines
PARTS = ("images", "annotations", "categories")


class UnusableFileError(ValueError):
    """A file that is no COCO file at all; the message names it and what was expected."""


@dataclass
class Columns:
    """The sound records of a COCO file, column by column. N images, A annotations, C categories.

    Attributes:
        image_rows, annotation_rows, category_rows: (N,), (A,), (C,) int, positions in the file's lists.
        image_ids: (N,) int64.
        sizes: (N, 2) int64, width and height in pixels.
        file_names: N relative paths.
        category_ids, names: C ids and names, in the file's order.
        annotation_ids: A ids as they are in the file, of any type.
        image, category: (A,) int, index into the images and the categories above.
        boxes: (A, 4) float64, finite, as they are in the file: x, y, width, height in pixels.
        crowd: (A,) bool.
        area: (A,) float64, NaN where the file has none.
        segmentations: A values as they are in the file.
    """

    image_rows: np.ndarray
    image_ids: np.ndarray
    sizes: np.ndarray
    file_names: list[str]
    category_rows: list[int]
    category_ids: list[int]
    names: list[str]
    annotation_rows: np.ndarray
    annotation_ids: list
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    segmentations: list

    def finding(self, kind: str, where: np.ndarray, detail: str = "") -> Finding:
        """A finding of the annotations at ``where``: (A,) bool, or (k,) int."""
        index = np.flatnonzero(where) if where.dtype == bool else where
        return Finding(kind, self.annotation_rows[index], [shown(self.annotation_ids[i]) for i in index], detail)


class Collector:
    """Gathers culprits by kind while records are gone through."""

    def __init__(self):
        self._rows = defaultdict(list)
        self._ids = defaultdict(list)
        self._details: dict[str, str] = {}

    def add(self, kind: str, row: int, name, detail: str = "") -> None:
        self._rows[kind].append(row)
        self._ids[kind].append(shown(name))
        self._details.setdefault(kind, detail)

    def findings(self) -> list[Finding]:
        return [Finding(kind, rows, self._ids[kind], self._details[kind]) for kind, rows in self._rows.items()]


def shown(value, width: int = 60):
    """An id as it can be shown and written: a number as it is, anything else as a short string."""
    if type(value) is int and abs(value) < MAX_ID:
        return value
    try:
        text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, or nested too deeply
        text = type(value).__name__
    return text if len(text) <= width else text[: width - 3] + "..."


def parse(path: str | os.PathLike) -> dict:
    """Read a COCO file as far as its three lists.

    Raises:
        FileNotFoundError: there is no such file; the message says where data sets are looked up.
        UnusableFileError: not JSON, nested too deeply, or ``images``, ``annotations``, ``categories`` are not lists.
    """
    path = os.fspath(path)
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {path} does not exist. Data sets lie under $REG_D2_DATASETS (default: datasets/), at "
            "the paths that the catalogue (DATASETS.CATALOG) gives"
        ) from None
    except RecursionError:
        raise UnusableFileError(f"{path} is nested too deeply for a COCO file") from None
    except ValueError as error:  # broken JSON, broken UTF-8, a number of more than 4,300 digits
        raise UnusableFileError(f"{path} is not a JSON file: {error}") from None
    missing = [part for part in PARTS if not isinstance(content, dict) or part not in content]
    if missing:
        raise UnusableFileError(f"{path}: no {', '.join(missing)} in it; expected a COCO instances file")
    for part in PARTS:
        if not isinstance(content[part], list):
            raise UnusableFileError(f"{path}: {part} is a {type(content[part]).__name__}; expected a list")
    return content


def check_structure(content: dict) -> tuple[Columns, list[Finding]]:
    """Check every record's types, ids and references.

    Args:
        content: of :func:`parse`.

    Returns:
        The sound records, and the findings about the others.
    """
    found = Collector()
    categories = _categories(content["categories"], found)
    images = _images(content["images"], found)
    columns = _annotations(content["annotations"], images, categories, found)
    return columns, found.findings()


def floats(values: Sequence) -> np.ndarray:
    """float64 of Python numbers; one too large for a float becomes infinite."""
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return np.array([_float(v) for v in values], dtype=np.float64)


def are_numbers(values: Iterable) -> bool:
    """Whether all are int or float, and none a bool."""
    return set(map(type, values)) <= {int, float}


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def whole(value) -> int | None:
    """An id as int: a whole number of reasonable size, also written 5.0; None for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < MAX_ID else None


def _is_text(value) -> bool:
    """Whether it is a string that can be shown on a line, encoded and used as a path.

    Not only printable ones: Thai text has zero-width spaces between words.
    """
    if type(value) is not str or not value.strip():
        return False
    return value.isprintable() or not UNUSABLE.intersection(map(unicodedata.category, value))


def leaves_folder(name: str) -> bool:
    """Whether a file name leads out of the folder that it is relative to, on Linux or Windows."""
    name = name.replace("\\", "/")
    return name.startswith("/") or ".." in name.split("/") or bool(PureWindowsPath(name).drive)


def _categories(records: list, found: Collector) -> tuple[list[int], list[int], list[str]]:
    rows, ids, names = [], [], []
    for row, record in enumerate(records):
        number, name = (whole(record.get("id")), record.get("name")) if type(record) is dict else (None, None)
        if number is None or not _is_text(name):
            found.add("category_record", row, record)
        elif number in ids or name in names:
            found.add("category_duplicate", row, name, f"category {number}: {shown(name)!r}")
        else:
            rows.append(row)
            ids.append(number)
            names.append(name)
    return rows, ids, names


def _images(records: list, found: Collector) -> dict[int, tuple[int, str, int, int]]:
    """id -> (row, file name, width, height) of the sound images."""
    images, names = {}, set()
    for row, record in enumerate(records):
        if type(record) is not dict or not _is_text(name := record.get("file_name")):
            found.add("image_record", row, record.get("id") if type(record) is dict else record)
            continue
        number, width, height = whole(record.get("id")), whole(record.get("width")), whole(record.get("height"))
        if leaves_folder(name):
            found.add("file_name_outside", row, name)
        elif number is None:
            found.add("image_id", row, name)
        elif number in images:
            found.add("image_id_duplicate", row, number)
        elif not width or not height or min(width, height) < 1 or width * height > MAX_PIXELS:
            found.add("image_size", row, number)
        else:
            if name in names:
                found.add("file_repeated", row, name)
            names.add(name)
            images[number] = (row, name, width, height)
    return images


def _annotations(records: list, images: dict, categories: tuple, found: Collector) -> Columns:
    image_index = {number: i for i, number in enumerate(images)}
    category_index = {number: i for i, number in enumerate(categories[1])}
    rows, ids, image, category, boxes, crowd, area, segmentations = ([] for _ in range(8))
    for row, record in enumerate(records):
        if type(record) is not dict:
            found.add("annotation_record", row, record)
            continue
        number = record.get("id")
        at = image_index.get(whole(record.get("image_id")))
        of = category_index.get(whole(record.get("category_id")))
        flag, box = record.get("iscrowd", 0), record.get("bbox")
        if at is None:
            text = f"annotation {shown(number)} names image {shown(record.get('image_id'))}"
            found.add("annotation_image_unknown", row, number, text)
        elif of is None:
            text = f"annotation {shown(number)} names category {shown(record.get('category_id'))}"
            found.add("annotation_category_unknown", row, number, text)
        elif not (type(flag) in (int, float, bool) and flag in (0, 1)):
            found.add("crowd_invalid", row, number)
        elif not (type(box) is list and len(box) == 4 and are_numbers(box)) or not _is_sane(box):
            found.add("box_malformed", row, number, f"annotation {shown(number)}: {shown(box)}")
        else:
            rows.append(row)
            ids.append(number)
            image.append(at)
            category.append(of)
            boxes.append(box)
            crowd.append(flag == 1)
            size = record.get("area")
            area.append(_float(size) if type(size) in (int, float) else np.nan)
            segmentations.append(record.get("segmentation"))
    values = list(images.values())
    return Columns(
        image_rows=np.array([v[0] for v in values], dtype=np.int64),
        image_ids=np.array(list(images), dtype=np.int64),
        sizes=np.array([v[2:] for v in values], dtype=np.int64).reshape(-1, 2),
        file_names=[v[1] for v in values],
        category_rows=categories[0],
        category_ids=categories[1],
        names=categories[2],
        annotation_rows=np.array(rows, dtype=np.int64),
        annotation_ids=ids,
        image=np.array(image, dtype=np.int64),
        category=np.array(category, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        crowd=np.array(crowd, dtype=bool),
        area=np.array(area, dtype=np.float64),
        segmentations=segmentations,
    )


def _is_sane(box: list) -> bool:
    return all(-MAX_COORDINATE <= v <= MAX_COORDINATE for v in box)  # False for NaN
