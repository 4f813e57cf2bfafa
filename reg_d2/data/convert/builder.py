"""Puts a COCO file together from images and objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pycocotools.mask as mask_util

from ..checks.geometry import turned
from ..checks.images import ImageFacts

LARGEST = 1e5  # px; no picture is larger, and drawing a polygon takes memory for each pixel of its line


class ConversionError(ValueError):
    """An annotation that cannot be converted; the message names the file and the place in it."""


@contextmanager
def at(place: object) -> Iterator[None]:
    """What is wrong with a value in here becomes a ConversionError whose message begins with the place."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{place}: {error}") from None
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ConversionError(f"{place}: {type(error).__name__} {error}") from None


def pixels(values: Iterable) -> list[float]:
    """Numbers of pixels, at most :data:`LARGEST` from 0.

    Raises:
        ConversionError: one is not finite, or larger.
        TypeError, ValueError: one is no number.
    """
    values = [float(v) for v in values]
    for value in values:
        if not abs(value) <= LARGEST:  # NaN, too
            raise ConversionError(f"{value} pixels; expected a finite number, at most {LARGEST:.0f}")
    return values


class CocoBuilder:
    """Collects images and objects, and numbers them from 1.

    Attributes:
        skipped: how many of what could not be expressed in COCO.
        notes: how many of what were taken in a way that the user should know.
    """

    def __init__(self, classes: Iterable[str] = ()):
        """``classes``: in this order, also those without objects; others are added as they come."""
        self._classes: dict[str, None] = {}
        for name in classes:
            self._add_class(name)
        self._images: list[dict] = []
        self._annotations: list[dict] = []
        self._turns: dict[int, ImageFacts] = {}
        self.skipped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def add_image(self, file_name: str, facts: ImageFacts, size: Sequence[int] | None = None) -> int:
        """Returns the image's id.

        Args:
            file_name: relative to the image folder.
            facts: of its header.
            size: (width, height) in pixels of the picture that the objects were marked in; default: as shown. Where
                that is the size as stored, and EXIF turns the picture, the objects are turned with it. Any other size
                is written as it is, for the check of the data set to judge.
        """
        number = len(self._images) + 1
        width, height = facts.size if size is None else (int(n) for n in pixels(size))
        if (width, height) == (facts.width, facts.height) != facts.size:
            self._turns[number] = facts
        self._images.append({"id": number, "file_name": file_name, "width": width, "height": height})
        return number

    def add_box(
        self, image: int, name: str, x1: float, y1: float, x2: float, y2: float, *, crowd: bool = False
    ) -> None:
        """An object that has a box only: corners in pixels, in any order. ``crowd``: to be ignored."""
        x1, y1, x2, y2 = pixels((x1, y1, x2, y2))
        (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
        self._add(image, name, [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1), [], crowd)

    def add_polygons(self, image: int, name: str, polygons: Sequence[Sequence[float]]) -> None:
        """An object of one or more polygons, each x0, y0, x1, y1, ... in pixels."""
        polygons = [pixels(polygon) for polygon in polygons]
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

    def _add(self, image, name, box, area, segmentation, crowd=False) -> None:
        self._add_class(name)
        entry = {"id": len(self._annotations) + 1, "image_id": image, "category": name, "iscrowd": int(crowd)}
        self._annotations.append({**entry, "bbox": box, "area": area, "segmentation": segmentation})

    def _add_class(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConversionError(f"{name!r} for the name of a class")
        self._classes.setdefault(name)

    def build(self) -> dict:
        """The COCO file: categories numbered from 1 in the order of the class list, sizes as the pictures are shown."""
        number = {name: i for i, name in enumerate(self._classes, start=1)}
        images, annotations = [dict(i) for i in self._images], []
        for image, fact in self._turns.items():
            images[image - 1]["width"], images[image - 1]["height"] = fact.size
        for annotation in self._annotations:
            annotation = {**annotation, "category_id": number[annotation["category"]]}
            del annotation["category"]
            if fact := self._turns.get(annotation["image_id"]):
                moved = turned(annotation, fact.orientation, (fact.width, fact.height))
                annotation = {**moved, "area": annotation["area"]}
            annotations.append(annotation)
        categories = [{"id": i, "name": name} for name, i in number.items()]
        return {"images": images, "annotations": annotations, "categories": categories}
