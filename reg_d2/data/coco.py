"""Reading a COCO file: its classes and counts, and its images as Detectron2's dataset dicts."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from .checks.findings import ERROR, summary
from .checks.masks import Masks
from .checks.structure import check_structure, parse

logger = logging.getLogger(__name__)


class ClassMismatchError(ValueError):
    """Two class lists that should be the same are not; the message shows both."""


@dataclass(frozen=True)
class ClassInfo:
    """The classes of a training set, in the order that the model uses.

    Attributes:
        names: C class names, by ascending category id of the (first) training file.
        box_counts: C numbers of objects, crowds not counted.
        mask_counts: C numbers of objects with a mask; 0 for a class that has boxes only.
    """

    names: tuple[str, ...] = ()
    box_counts: tuple[int, ...] = ()
    mask_counts: tuple[int, ...] = ()

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of the classes that have masks."""
        return tuple(name for name, n in zip(self.names, self.mask_counts, strict=True) if n > 0)

    def __add__(self, other: "ClassInfo") -> "ClassInfo":
        """The classes of two training sets together: matched by name, counts added."""
        check_same_classes(self.names, other.names, "the first training set", "another training set")
        index = [other.names.index(name) for name in self.names]
        return ClassInfo(
            self.names,
            tuple(n + other.box_counts[i] for n, i in zip(self.box_counts, index, strict=True)),
            tuple(n + other.mask_counts[i] for n, i in zip(self.mask_counts, index, strict=True)),
        )


@dataclass
class CocoFile:
    """One parsed COCO file. ``categories``: name of each category id, by ascending id."""

    path: str
    categories: dict[int, str]
    images: list[dict] = field(repr=False)
    annotations: list[dict] = field(repr=False)

    def class_info(self) -> ClassInfo:
        """Classes and counts of this file; crowd regions are not counted."""
        boxes = dict.fromkeys(self.categories, 0)
        masks = dict.fromkeys(self.categories, 0)
        for annotation in self.annotations:
            if not annotation.get("iscrowd", 0):
                boxes[annotation["category_id"]] += 1
                masks[annotation["category_id"]] += has_mask(annotation)
        return ClassInfo(tuple(self.categories.values()), tuple(boxes.values()), tuple(masks.values()))


def has_mask(annotation: dict) -> bool:
    """Whether an annotation holds a usable mask: an RLE, or a polygon of three points or more."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return True
    return bool(segmentation) and any(len(p) >= 6 and len(p) % 2 == 0 for p in segmentation)


def read_coco(path: str | os.PathLike) -> CocoFile:
    """Parse a COCO annotation file.

    Raises:
        FileNotFoundError: there is no such file; the message says where data sets are looked up.
        ValueError: not JSON; ``images``, ``annotations`` or ``categories`` missing; a record that would stop the run
            (see :mod:`reg_d2.data.checks`), such as an annotation of an unknown category. It says how to repair it.
    """
    path = os.fspath(path)
    content = parse(path)
    columns, findings = check_structure(content)
    broken = [f for f in [*findings, *Masks(columns).findings] if f.severity == ERROR]
    if broken:
        raise ValueError(f"{path} cannot be used:\n{summary(broken)}\n{repair_hint(path)}")
    ids = sorted(zip(columns.category_ids, columns.names, strict=True))
    return CocoFile(path, dict(ids), content["images"], content["annotations"])


def repair_hint(path: str | os.PathLike) -> str:
    """The line that tells how a broken file is looked at and repaired."""
    return (
        f"All findings: python tools/check_dataset.py {path}:IMAGE_FOLDER; "
        f"a repaired copy: the same with --fix {Path(path).with_suffix('')}_fixed.json"
    )


def to_dataset_dicts(coco: CocoFile, image_root: str | os.PathLike, class_names: Sequence[str]) -> list[dict]:
    """Detectron2's dataset dicts of a COCO file, its classes matched by name to ``class_names``.

    Every image is kept, also without objects. An object without a usable mask has no ``segmentation``: it trains
    the box head alone.

    Raises:
        ClassMismatchError: the file's classes are not ``class_names``, in whatever order.
    """
    check_same_classes(class_names, tuple(coco.categories.values()), "the model", coco.path)
    index = {category_id: class_names.index(name) for category_id, name in coco.categories.items()}
    by_image: dict[int, list[dict]] = {}
    broken = 0
    for annotation in coco.annotations:
        entry = {
            "bbox": [float(v) for v in annotation["bbox"]],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": index[annotation["category_id"]],
            "iscrowd": int(annotation.get("iscrowd", 0)),
        }
        if has_mask(annotation):
            entry["segmentation"] = _clean_mask(annotation["segmentation"])
        else:
            broken += bool(annotation.get("segmentation"))
        by_image.setdefault(annotation["image_id"], []).append(entry)
    if broken:
        logger.warning(
            f"{coco.path}: {broken} objects have polygons of fewer than three points: they are used as boxes only"
        )
    return [
        {
            "file_name": os.path.join(image_root, image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": by_image.get(image["id"], []),
        }
        for image in coco.images
    ]


def check_same_classes(expected: Sequence[str], found: Sequence[str], expected_of: str, found_of: str) -> None:
    """Refuse class lists that do not hold the same names; their order may differ.

    Raises:
        ClassMismatchError: with both lists and what is missing on either side.
    """
    if set(expected) == set(found):
        return
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    raise ClassMismatchError(
        f"the classes of {expected_of} and of {found_of} differ.\n"
        f"  {expected_of}: {list(expected)}\n  {found_of}: {list(found)}\n"
        f"  missing: {missing or 'none'}; not expected: {extra or 'none'}\n"
        "Classes are matched by name: rename or add the categories in the file, or train on this set's own classes."
    )


def _clean_mask(segmentation):
    if isinstance(segmentation, dict):
        uncompressed = isinstance(segmentation["counts"], list)
        return mask_util.frPyObjects(segmentation, *segmentation["size"]) if uncompressed else segmentation
    return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
