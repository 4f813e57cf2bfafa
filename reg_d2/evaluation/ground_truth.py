"""Ground truth and detections as the evaluator needs them: copied, renumbered, checked, one task at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from math import inf
from numbers import Real

from .checks import check_annotations, check_parts
from .records import is_whole, naming, read_json

logger = logging.getLogger(__name__)


def load_ground_truth(source: str | os.PathLike | Mapping) -> dict:
    """Read a COCO dict or file into fresh dicts, annotations renumbered from 1.

    An annotation with id 0 would count as unmatched in every COCO evaluator and one of two with the same id would
    be lost, so ids are always replaced (nothing here reports them) and such a file is named in the log. Missing
    ``iscrowd`` is 0; an ``area`` that is missing, null, negative or not finite is the box's. Returns ``{"images",
    "categories" (by id), "annotations"}``; the caller's objects are not changed. Annotations of images or classes that
    are not listed are left out, as pycocotools does, with a warning. Raises ValueError, which names the file, for class
    names that occur twice, and for what ``check_parts`` and ``check_annotations`` refuse.
    """
    data = source if isinstance(source, Mapping) else read_json(source)
    with naming(source):
        check_parts(data)
        return _renumbered(data)


def _renumbered(data: Mapping) -> dict:
    categories = sorted(({"id": int(c["id"]), "name": str(c["name"])} for c in data["categories"]), key=_by_id)
    for key in ("id", "name"):
        values = [c[key] for c in categories]
        if repeated := sorted({v for v in values if values.count(v) > 1}):
            raise ValueError(f"category {key}s occur more than once: {repeated}; give every class one of its own")
    images = [{**im, "id": int(im["id"])} for im in data["images"]]

    ids = [a.get("id") for a in data["annotations"]]
    seen: set = set()
    # set.add returns None, so an id counts as seen from its second time on.
    if odd := [i for i in ids if not is_whole(i) or i == 0 or i in seen or seen.add(i)]:
        logger.warning(
            "ground truth has %d of %d annotation ids that are 0, missing, no whole number or repeated, first %s: "
            "renumbered from 1",
            len(odd),
            len(ids),
            odd[:3],
        )
    known_images, known_classes = {im["id"] for im in images}, {c["id"] for c in categories}
    kept = [a for a in data["annotations"] if a["image_id"] in known_images and a["category_id"] in known_classes]
    if len(kept) < len(ids):
        logger.warning("%d annotations left out: their image or category is not listed", len(ids) - len(kept))
    check_annotations(images, kept)
    annotations = [
        {**a, "area": _area(a), "iscrowd": int(a.get("iscrowd") or 0), "id": i} for i, a in enumerate(kept, start=1)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


def _area(annotation: Mapping) -> float:
    area = annotation.get("area")
    # A number that cannot be compared, or none at all, would count in every size, or in none.
    usable = isinstance(area, Real) and 0 <= area < inf
    return area if usable else annotation["bbox"][2] * annotation["bbox"][3]


def mask_of(annotation: Mapping) -> dict | list | None:
    """The annotation's mask: its RLE, or those of its polygons that have an area; None where it has a box only."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        return dict(segmentation)
    # Fewer than 3 points enclose nothing, and pycocotools reads 4 numbers as a box; half a point is damage. Training
    # (``reg_d2.data.coco.has_mask``) does the same.
    return [p for p in segmentation or [] if len(p) >= 6 and len(p) % 2 == 0] or None


def names_with_masks(ground_truth: Mapping, mask_classes: Collection[str] | None) -> list[str]:
    """Names of the classes that have masks, in category order: ``mask_classes``, or where None, found in the file."""
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    if mask_classes is None:
        mask_classes = {names[a["category_id"]] for a in ground_truth["annotations"] if mask_of(a)}
    if unknown := sorted(set(mask_classes) - set(names.values())):
        raise ValueError(f"mask_classes names {unknown}, not among the ground truth's classes {list(names.values())}")
    return [n for n in names.values() if n in mask_classes]


def task_annotations(ground_truth: Mapping, task: str, category_ids: Collection[int]) -> tuple[list[int], list[dict]]:
    """The annotations of one task ("bbox" or "segm") over some classes: their indices, and fresh dicts.

    In "segm" an object without a mask becomes an ignored region in the shape of its box (iscrowd 1): the two tasks
    were annotated separately, so the object is there and a mask on it is neither right nor wrong; COCO's crowd rule
    drops a mask of which at least the IoU threshold's share lies inside that box.
    """
    indices, result = [], []
    for index, ann in enumerate(ground_truth["annotations"]):
        if ann["category_id"] not in category_ids:
            continue
        ann = {
            k: ann[k] for k in ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation") if k in ann
        }
        mask = mask_of(ann)
        ann.pop("segmentation", None)
        if task == "segm":
            x, y, w, h = ann["bbox"]
            ann["segmentation"] = mask or [[x, y, x + w, y, x + w, y + h, x, y + h]]
            ann["iscrowd"] = ann["iscrowd"] if mask else 1
        indices.append(index)
        result.append(ann)
    return indices, result


def task_detections(
    detections: Sequence[Mapping], task: str, category_ids: Collection[int]
) -> tuple[list[int], Sequence[Mapping]]:
    """The detections that one task ("bbox" or "segm") can measure, over some classes: their indices, and themselves.

    Those without a box, or in "segm" without a mask, are left out.
    """
    key = "bbox" if task == "bbox" else "segmentation"
    indices = [i for i, d in enumerate(detections) if d["category_id"] in category_ids and d.get(key) is not None]
    return indices, [detections[i] for i in indices]


def _by_id(category: Mapping) -> int:
    return category["id"]
