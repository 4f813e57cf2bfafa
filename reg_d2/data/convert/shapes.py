"""Formats that hold drawn shapes: labelme and CVAT."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from .builder import CocoBuilder, ConversionError, at, pixels
from .files import find_image, list_files, open_picture, read_xml


def from_labelme(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A folder of labelme JSON files: rectangles are boxes, polygons masks, those of one ``group_id`` one object."""
    builder = CocoBuilder(classes.values())
    for path in list_files(source, ".json"):
        with at(path):
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict) or not {"imagePath", "shapes"} <= content.keys():
                raise ConversionError("no labelme file, which has imagePath and shapes")
            name = find_image(images, str(content["imagePath"]), path, source)
            size = content.get("imageWidth"), content.get("imageHeight")
            image = builder.add_image(name, open_picture(images / name), size if all(size) else None)
            shapes = [_labelme_shape(s, f"shape {i}") for i, s in enumerate(content["shapes"], start=1)]
            _add_shapes(builder, image, shapes, rectangle="rectangle")
    return builder


def _labelme_shape(shape: dict, place: str) -> tuple[str, str | None, object, list[float]]:
    with at(place):
        label = shape["label"]
        points = pixels(v for x, y in shape["points"] for v in (x, y))
        return shape["shape_type"], label if label is None else str(label), shape.get("group_id"), points


def from_cvat(source: Path, images: Path, classes: dict[int, str]) -> CocoBuilder:
    """A CVAT file "for images 1.1": boxes, polygons (those of one ``group_id`` are one object) and masks.

    A rotated box becomes the upright box around it.
    """
    with at(source):
        root = read_xml(source)
        records = list(root.iter("image"))
        if not records:
            video = root.find("track") is not None
            way_out = 'this is "CVAT for video"; export the task as "CVAT for images 1.1"' if video else "no CVAT file"
            raise ConversionError(f"no <image> in it: {way_out}")
        labels = [name.text or "" for name in root.findall("./meta//label/name")]
        builder = CocoBuilder(classes.values() or labels)
    for record in records:
        with at(f"{source}, image {record.get('name')!r}"):
            name = find_image(images, record.attrib["name"])
            size = int(record.attrib["width"]), int(record.attrib["height"])
            image = builder.add_image(name, open_picture(images / name), size)
            nodes = [n for n in record if "label" in n.attrib]
            shapes = [_cvat_shape(n, f"{n.tag} {i}") for i, n in enumerate(nodes, start=1) if n.tag != "mask"]
            masks = [(node.attrib["label"], _cvat_mask(node, size)) for node in nodes if node.tag == "mask"]
            _add_shapes(builder, image, shapes, rectangle="box")
            for label, mask in masks:
                builder.add_mask(image, label, mask)
    return builder


def _cvat_shape(node, place: str) -> tuple[str, str, str | None, list[float]]:
    values = node.attrib
    with at(place):
        if node.tag == "box":
            points = pixels(values[k] for k in ("xtl", "ytl", "xbr", "ybr"))
            points = _around(*points, math.radians(*pixels([values.get("rotation", 0)])))
        else:
            pairs = (point.split(",") for point in values.get("points", "").split(";") if point)
            points = pixels(v for x, y in pairs for v in (x, y))
    return node.tag, values["label"], values.get("group_id"), points


def _around(x1: float, y1: float, x2: float, y2: float, angle: float) -> list[float]:
    """The upright box around one that is rotated about its centre by ``angle``, in radians, either way."""
    if angle == 0:
        return [x1, y1, x2, y2]
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1) / 2, abs(y2 - y1) / 2
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    w, h = w * cos + h * sin, w * sin + h * cos
    return [x - w, y - h, x + w, y + h]


def _cvat_mask(node, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: run lengths row by row inside a rectangle, from the background on."""
    left, top, width, height = (int(node.attrib[k]) for k in ("left", "top", "width", "height"))
    runs = [int(n) for n in node.attrib["rle"].split(",")]
    if sum(runs) != width * height:
        raise ConversionError(f"the runs of a mask are {sum(runs)} pixels; expected {width}x{height}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = np.zeros(size[::-1], dtype=bool)
    mask[top : top + height, left : left + width] = values
    return mask


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
