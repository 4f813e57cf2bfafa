"""Puts a COCO file together from images and objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class ConversionError(ValueError):
    """An annotation that cannot be converted; the message names the file and the place in it."""


class CocoBuilder:
    """Collects images and objects, and numbers them from 1.

    Attributes:
        skipped: how many objects of each shape could not be expressed in COCO.
    """

    def __init__(self, classes: Sequence[str] = ()):
        """``classes``: in this order, also those without objects; others are added as they come."""
        self._classes = dict.fromkeys(classes)
        self._images: list[dict] = []
        self._annotations: list[dict] = []
        self.skipped: Counter[str] = Counter()

    def add_image(self, file_name: str, width: int, height: int) -> int:
        """Returns the image's id; sizes in pixels."""
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": file_name, "width": width, "height": height})
        return number

    def add_box(self, image: int, name: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """An object that has a box only: corners in pixels, in any order."""
        (x1, x2), (y1, y2) = sorted((float(x1), float(x2))), sorted((float(y1), float(y2)))
        self._add(image, name, [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1), [])

    def add_polygons(self, image: int, name: str, polygons: Sequence[Sequence[float]]) -> None:
        """An object of one or more polygons, each x0, y0, x1, y1, ... in pixels."""
        polygons = [[float(v) for v in polygon] for polygon in polygons]
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in polygons])
        low, high = points.min(0), points.max(0)
        record = self._images[image - 1]
        merged = mask_util.merge(mask_util.frPyObjects(polygons, record["height"], record["width"]))
        self._add(image, name, [*low.tolist(), *(high - low).tolist()], float(mask_util.area(merged)), polygons)

    def add_mask(self, image: int, name: str, mask: np.ndarray) -> None:
        """An object of pixels: (H, W) bool, not empty."""
        run = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {"size": [int(n) for n in run["size"]], "counts": run["counts"].decode("ascii")}
        self._add(image, name, mask_util.toBbox(run).tolist(), float(mask_util.area(run)), segmentation)

    def _add(self, image, name, box, area, segmentation) -> None:
        self._classes.setdefault(name)
        entry = {"id": len(self._annotations) + 1, "image_id": image, "category": name, "iscrowd": 0}
        self._annotations.append({**entry, "bbox": box, "area": area, "segmentation": segmentation})

    def build(self) -> dict:
        """The COCO file: categories numbered from 1 in the order of the class list."""
        number = {name: i for i, name in enumerate(self._classes, start=1)}
        annotations = [{**a, "category_id": number[a["category"]]} for a in self._annotations]
        for annotation in annotations:
            del annotation["category"]
        return {
            "images": self._images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for name, i in number.items()],
        }


def find_images(folder: Path) -> list[Path]:
    """All images below a folder, in order.

    Raises:
        ConversionError: there are none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ConversionError(f"no images in {folder}; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def find_image(folder: Path, name: str, source: Path) -> str:
    """The path, relative to ``folder``, of the image that an annotation file names, perhaps with another folder.

    Raises:
        ConversionError: it is not there.
    """
    name = name.replace("\\", "/")
    for candidate in (name, name.rsplit("/", 1)[-1]):
        if ".." not in candidate.split("/") and not candidate.startswith("/") and (folder / candidate).is_file():
            return candidate
    raise ConversionError(f"{source} names the image {name!r}, which is not in {folder}")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, as stored.

    Raises:
        ConversionError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ConversionError(f"{path} cannot be read as an image: {error}") from None
