"""The formats: each is a function (source, image folder, classes) -> CocoBuilder.

Pascal VOC is read by globox. The others hold masks, which globox turns into boxes; and supervision gives every
box-only object of an image a rectangle for a mask as soon as one object has a polygon, which would teach the mask
head rectangles. So these few fields are read here.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from globox import Annotation
from globox.errors import ParsingError

from .builder import CocoBuilder, ConversionError, find_image, find_images, image_size

LEAST_PIXELS = 10  # a smaller piece of a semantic mask is noise of its edges


def convert(name: str, source: Path, images: Path, classes: Sequence[str] | Path | None = None) -> CocoBuilder:
    """Convert annotations.

    Args:
        name: a key of :data:`FORMATS`.
        source: the file or folder of annotations.
        images: the image folder; file names are relative to it.
        classes: names in order, or a file: YOLO's ``data.yaml``, or one name a line. For PNG masks a YAML mapping of
            pixel value to name. Needed for YOLO and PNG masks, which hold numbers only.

    Raises:
        ConversionError: with the file and what is wrong in it.
        FileNotFoundError: source or images are not there.
    """
    for path in (source, images):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    return FORMATS[name](source, images, read_classes(classes))


def read_classes(classes: Sequence[str] | Path | None) -> dict[int, str]:
    """Number -> name, from a list, a file of one name a line, or YAML with ``names`` (a list or a mapping).

    Raises:
        ConversionError: the file holds nothing of the kind, or a name twice.
    """
    if classes is None:
        return {}
    if isinstance(classes, Path):
        text = classes.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if classes.suffix in (".yaml", ".yml") else text.split("\n")
        content = content.get("names", content) if isinstance(content, dict) else content
        if isinstance(content, dict):
            found = {int(k): str(v) for k, v in content.items() if str(k).isdigit()}
        else:
            found = dict(enumerate(str(line).strip() for line in content or [] if str(line).strip()))
    else:
        found = dict(enumerate(classes))
    if not found or len(set(found.values())) < len(found):
        raise ConversionError(f"{classes}: expected distinct class names, found {list(found.values())}")
    return found


def from_yolo(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of ``<image>.txt``: ``class cx cy w h`` is a box, ``class x1 y1 x2 y2 x3 y3 ...`` a polygon, relative to
    the image's size. An image without a file is kept without objects."""
    _need(classes, "YOLO", "data.yaml, or a file of one name a line")
    builder = CocoBuilder(classes.values())
    for path in find_images(images):
        name = path.relative_to(images)
        size = image_size(path)
        image = builder.add_image(name.as_posix(), *size)
        label = source / name.with_suffix(".txt")
        lines = label.read_text().splitlines() if label.is_file() else []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                _add_yolo_line(builder, image, line, size, classes, f"{label}, line {number}")
    return builder


def _add_yolo_line(builder, image, line, size, classes, place) -> None:
    try:
        index, *values = line.split()
        index, values = int(float(index)), np.array(values, dtype=np.float64)
    except ValueError:
        raise ConversionError(f"{place}: {line!r}; expected numbers") from None
    if index not in classes:
        raise ConversionError(f"{place}: class {index}; there are {classes}")
    if len(values) == 4:
        (cx, cy), (w, h) = values[:2] * size, values[2:] * size
        builder.add_box(image, classes[index], cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        builder.add_polygons(image, classes[index], [(values.reshape(-1, 2) * size).ravel()])
    else:
        raise ConversionError(f"{place}: {len(values)} numbers; expected 4 for a box, or 6 and more for a polygon")


def from_voc(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of Pascal VOC XML files: boxes."""
    builder = CocoBuilder(classes.values())
    for path in _files(source, ".xml"):
        try:
            annotation = Annotation.from_pascal_voc(path)
        except ParsingError as error:
            raise ConversionError(f"{path}: {error}") from None
        name = find_image(images, annotation.image_id, path)
        image = builder.add_image(name, *annotation.image_size)
        for box in annotation.boxes:
            builder.add_box(image, box.label, box.xmin, box.ymin, box.xmax, box.ymax)
    return builder


def from_labelme(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of labelme JSON files: rectangles are boxes, polygons masks, those of one ``group_id`` one object."""
    builder = CocoBuilder(classes.values())
    for path in _files(source, ".json"):
        try:
            content = json.loads(path.read_bytes())
            name, shapes = content["imagePath"], content["shapes"]
            name = find_image(images, name, path)
            image = builder.add_image(name, *image_size(images / name))
            found = [(s["shape_type"], s["label"], s.get("group_id"), np.ravel(s["points"]).tolist()) for s in shapes]
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConversionError):
                raise
            raise ConversionError(f"{path} is no labelme file: {type(error).__name__} {error}") from None
        _add_shapes(builder, image, found, rectangle="rectangle")
    return builder


def from_cvat(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A CVAT file "for images 1.1": boxes, polygons (those of one ``group_id`` are one object) and masks."""
    try:
        root = ElementTree.parse(source).getroot()
    except ElementTree.ParseError as error:
        raise ConversionError(f"{source} is no XML file: {error}") from None
    labels = [name.text or "" for name in root.findall("./meta//label/name")]
    builder = CocoBuilder(classes.values() or dict.fromkeys(labels))
    for record in root.iter("image"):
        try:
            name = find_image(images, record.attrib["name"], source)
            size = int(record.attrib["width"]), int(record.attrib["height"])
            image = builder.add_image(name, *size)
            shapes = [_cvat_shape(node) for node in record if "label" in node.attrib and node.tag != "mask"]
            masks = [(node.attrib["label"], _cvat_mask(node, size)) for node in record.findall("mask")]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, ConversionError):
                raise
            text = f"{source}, image {record.get('name')!r}: {type(error).__name__} {error}"
            raise ConversionError(text) from None
        _add_shapes(builder, image, shapes, rectangle="box")
        for label, mask in masks:
            builder.add_mask(image, label, mask)
    return builder


def _cvat_shape(node) -> tuple[str, str, str | None, list[float]]:
    values = node.attrib
    group = values.get("group_id")
    if node.tag == "box":
        return "box", values["label"], group, [float(values[k]) for k in ("xtl", "ytl", "xbr", "ybr")]
    points = [float(v) for point in values.get("points", "").split(";") if point for v in point.split(",")]
    return node.tag, values["label"], group, points


def _cvat_mask(node, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: run lengths row by row inside a rectangle, from the background on."""
    left, top, width, height = (int(node.attrib[k]) for k in ("left", "top", "width", "height"))
    runs = [int(n) for n in node.attrib["rle"].split(",")]
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size[::-1], dtype=bool)
    mask[top : top + height, left : left + width] = values
    return mask


def from_png_masks(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of ``<image>.png``, the class of each pixel; each connected piece of a class is an instance.

    Objects that touch come out as one: look at the result.
    """
    _need(classes, "PNG masks", "a YAML mapping of pixel value to name")
    builder = CocoBuilder(classes.values())
    for path in find_images(images):
        name = path.relative_to(images)
        size = image_size(path)
        image = builder.add_image(name.as_posix(), *size)
        file = source / name.with_suffix(".png")
        if not file.is_file():
            continue
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2 or labels.shape[::-1] != size:
            shape = None if labels is None else labels.shape
            raise ConversionError(f"{file}: {shape}; expected one channel of {size[0]}x{size[1]}")
        for value, title in classes.items():
            count, pieces, statistics, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8))
            for i in range(1, count):
                if statistics[i, cv2.CC_STAT_AREA] >= LEAST_PIXELS:
                    builder.add_mask(image, title, pieces == i)
                else:
                    builder.skipped[f"pieces below {LEAST_PIXELS} px"] += 1
    return builder


def _add_shapes(builder: CocoBuilder, image: int, shapes: list, rectangle: str) -> None:
    """Shapes (type, label, group, points) of one image."""
    groups: dict[tuple, list] = {}
    for kind, label, group, points in shapes:
        if kind == rectangle and len(points) >= 4:
            x, y = points[::2], points[1::2]
            builder.add_box(image, label, min(x), min(y), max(x), max(y))
        elif kind == "polygon" and len(points) >= 6:
            alone = group in (None, "", "0")
            groups.setdefault((label, len(groups) if alone else group, alone), []).append(points)
        else:
            builder.skipped[f"{kind} of {len(points) // 2} points"] += 1
    for (label, _, _), polygons in groups.items():
        builder.add_polygons(image, label, polygons)


def _files(folder: Path, suffix: str) -> list[Path]:
    found = sorted(folder.rglob(f"*{suffix}"))
    if not found:
        raise ConversionError(f"no {suffix} files in {folder}")
    return found


def _need(classes: dict, what: str, how: str) -> None:
    if not classes:
        raise ConversionError(f"{what} hold class numbers only: give the names with --classes, {how}")


FORMATS: dict[str, Callable[[Path, Path, dict[int, str]], CocoBuilder]] = {
    "yolo": from_yolo,
    "voc": from_voc,
    "labelme": from_labelme,
    "cvat": from_cvat,
    "png": from_png_masks,
}
