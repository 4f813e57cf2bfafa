"""Reading a COCO file: its classes and counts, and its images as Detectron2's dataset dicts."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.structures import BoxMode

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
        ValueError: not JSON; ``images``, ``annotations`` or ``categories`` missing; two categories of one name or
            id; an annotation of an unknown category or image.
    """
    path = os.fspath(path)
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"annotation file {path} does not exist. Data sets lie under $REG_D2_DATASETS (default: datasets/), at "
            "the paths that the catalogue (DATASETS.CATALOG) gives"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(content, dict) or k not in content]
    if missing:
        raise ValueError(f"{path}: no {', '.join(missing)} in it; expected a COCO instances file")
    categories = {c["id"]: c["name"] for c in sorted(content["categories"], key=lambda c: c["id"])}
    if len(categories) != len(content["categories"]) or len(set(categories.values())) != len(categories):
        raise ValueError(f"{path}: two categories share an id or a name: {[c['name'] for c in content['categories']]}")
    image_ids = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["category_id"] not in categories or annotation["image_id"] not in image_ids:
            raise ValueError(
                f"{path}: annotation {annotation.get('id')} names category {annotation['category_id']} and image "
                f"{annotation['image_id']}, of which one is not in the file"
            )
    return CocoFile(path, categories, content["images"], content["annotations"])


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
        return segmentation
    return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
