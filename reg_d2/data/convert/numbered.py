"""Formats that hold class numbers, in a file for each image: YOLO, and PNG masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .builder import CocoBuilder, ConversionError, at
from .classes import need_classes
from .files import open_picture, pair_files

LEAST_PIXELS = 10  # a smaller piece of a semantic mask is noise of its edges


def from_yolo(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of ``<image>.txt``: ``class cx cy w h`` is a box, ``class x1 y1 x2 y2 x3 y3 ...`` a polygon, relative to
    the size of the image as shown. An image without a file is kept without objects."""
    need_classes(classes, "YOLO", "data.yaml, or a file of one name a line")
    builder = CocoBuilder(classes.values())
    pairs, rest = pair_files(images, source, ".txt")
    for name, label in pairs:
        facts = open_picture(images / name)
        image = builder.add_image(name, facts)
        if label is None:
            continue
        with at(label):
            lines = label.read_text(encoding="utf-8-sig").splitlines()
        for number, line in enumerate(lines, start=1):
            if line.strip():
                with at(f"{label}, line {number}"):
                    _add_yolo_line(builder, image, line, facts.size, classes)
    _leave_out(builder, rest, source)
    return builder


def _add_yolo_line(builder, image, line, size, classes) -> None:
    try:
        number, *values = (float(v) for v in line.split())
    except ValueError:
        raise ConversionError(f"{line!r}; expected numbers") from None
    if not number.is_integer() or int(number) not in classes:
        raise ConversionError(f"class {line.split()[0]}; there are {classes}")
    title, values = classes[int(number)], np.array(values)
    if len(values) == 4:
        (cx, cy), (w, h) = values[:2] * size, values[2:] * size
        builder.add_box(image, title, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        builder.add_polygons(image, title, [(values.reshape(-1, 2) * size).ravel()])
    else:
        raise ConversionError(f"{len(values)} numbers; expected 4 for a box, or 6 and more for a polygon")


def from_png_masks(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of ``<image>.png``, the class of each pixel, in gray or as the index of a palette; each connected piece
    of a class is an instance.

    Objects that touch come out as one: look at the result. A mask has the size of its image, as shown or as stored.
    """
    need_classes(classes, "PNG masks", "a YAML mapping of pixel value to name")
    builder = CocoBuilder(classes.values())
    pairs, rest = pair_files(images, source, ".png")
    for name, file in pairs:
        facts = open_picture(images / name)
        if file is None:
            builder.add_image(name, facts)
            continue
        labels = _read_labels(file)
        sizes = facts.size, (facts.width, facts.height)
        if labels.ndim != 2 or labels.shape[::-1] not in sizes:
            width, height = facts.size
            raise ConversionError(f"{file}: {labels.shape}; expected one channel of {width}x{height}")
        image = builder.add_image(name, facts, labels.shape[::-1])
        for value, title in classes.items():
            count, pieces, statistics, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8))
            for i in range(1, count):
                if statistics[i, cv2.CC_STAT_AREA] >= LEAST_PIXELS:
                    builder.add_mask(image, title, pieces == i)
                else:
                    builder.skipped[f"pieces below {LEAST_PIXELS} px"] += 1
    _leave_out(builder, rest, source)
    return builder


def _read_labels(file: Path) -> np.ndarray:
    """(H, W) pixel values, or (H, W, C). Pillow gives a palette's indices, where OpenCV gives its colours."""
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("L") if image.mode == "1" else image)
    except Exception as error:  # Pillow raises nearly anything on a broken file
        raise ConversionError(f"{file} cannot be read as an image: {error}") from None


def _leave_out(builder: CocoBuilder, files: list[Path], source: Path) -> None:
    if files:
        names = ", ".join(f.relative_to(source).as_posix() for f in files[:3])
        text = f"annotation files without an image: {names}" + (", ..." if len(files) > 3 else "")
        builder.skipped[text] = len(files)
