"""Ground truth and detections as the evaluator needs them: copied, renumbered, checked, one task at a time."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence

logger = logging.getLogger(__name__)


def load_ground_truth(source: str | os.PathLike | Mapping) -> dict:
    """Read a COCO dict or file into fresh dicts, annotations renumbered from 1.

    An annotation with id 0 would count as unmatched in every COCO evaluator and one of two with the same id would
    be lost, so ids are always replaced (nothing here reports them) and such a file is named in the log. Missing
    ``iscrowd`` is 0, missing ``area`` the box's. Returns ``{"images", "categories" (by id), "annotations"}``; the
    caller's objects are not changed. Annotations of images or classes that are not listed are left out, as
    pycocotools does, with a warning. Raises ValueError for missing parts and for class names that occur twice.
    """
    data = source
    if not isinstance(source, Mapping):
        with open(source, encoding="utf-8") as f:
            data = json.load(f)
    missing = [k for k in ("images", "annotations", "categories") if k not in data]
    if missing:
        raise ValueError(f"ground truth has no {missing}: expected a COCO detection file, keys found {sorted(data)}")
    categories = sorted(({"id": int(c["id"]), "name": str(c["name"])} for c in data["categories"]), key=_by_id)
    for key in ("id", "name"):
        values = [c[key] for c in categories]
        if repeated := sorted({v for v in values if values.count(v) > 1}):
            raise ValueError(f"category {key}s occur more than once: {repeated}; give every class one of its own")
    images = [{**im, "id": int(im["id"])} for im in data["images"]]

    ids = [a.get("id") for a in data["annotations"]]
    if 0 in ids or None in ids or len(set(ids)) < len(ids):
        logger.warning(
            "ground truth has annotation ids that are 0, missing or repeated (%d of %d distinct): renumbered from 1",
            len(set(ids) - {None}),
            len(ids),
        )
    known_images, known_classes = {im["id"] for im in images}, {c["id"] for c in categories}
    kept = [a for a in data["annotations"] if a["image_id"] in known_images and a["category_id"] in known_classes]
    if len(kept) < len(ids):
        logger.warning("%d annotations left out: their image or category is not listed", len(ids) - len(kept))
    annotations = [
        {"area": a["bbox"][2] * a["bbox"][3], **a, "iscrowd": int(a.get("iscrowd") or 0), "id": i}
        for i, a in enumerate(kept, start=1)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


def mask_of(annotation: Mapping) -> dict | list | None:
    """The annotation's mask: its RLE, or those of its polygons that have an area; None where it has a box only."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        return dict(segmentation)
    # Fewer than 3 points enclose nothing, and pycocotools reads 4 numbers as a box.
    return [p for p in segmentation or [] if len(p) >= 6] or None


def names_with_masks(ground_truth: Mapping, mask_classes: Collection[str] | None) -> list[str]:
    """Names of the classes that have masks, in category order: ``mask_classes``, or where None, found in the file."""
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    if mask_classes is None:
        mask_classes = {names[a["category_id"]] for a in ground_truth["annotations"] if mask_of(a)}
    if unknown := sorted(set(mask_classes) - set(names.values())):
        raise ValueError(f"mask_classes names {unknown}, not among the ground truth's classes {list(names.values())}")
    return [n for n in names.values() if n in mask_classes]


def task_annotations(ground_truth: Mapping, task: str, category_ids: Collection[int]) -> list[dict]:
    """The annotations of one task ("bbox" or "segm") over some classes, as fresh dicts.

    In "segm" an object without a mask becomes an ignored region in the shape of its box (iscrowd 1): the two tasks
    were annotated separately, so the object is there and a mask on it is neither right nor wrong; COCO's crowd rule
    drops a mask of which at least the IoU threshold's share lies inside that box.
    """
    result = []
    for ann in ground_truth["annotations"]:
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
        result.append(ann)
    return result


def task_detections(detections: Sequence[Mapping], task: str, category_ids: Collection[int]) -> list[dict]:
    """The detections of one task over some classes, as fresh dicts with what the task needs and no more.

    In "segm" those without ``segmentation`` are left out, and boxes too: with a box present COCO's code would take
    the box's area for the mask's, and sort masks into the wrong size bins.
    """
    key = "bbox" if task == "bbox" else "segmentation"
    return [
        {k: d[k] for k in ("image_id", "category_id", "score", key)}
        for d in detections
        if d["category_id"] in category_ids and d.get(key) is not None
    ]


def check_detections(detections: Sequence[Mapping], ground_truth: Mapping) -> None:
    """Refuse detections that COCO's code would drop or misread in silence.

    Raises ValueError with the first offender and their number: image or category not in the ground truth, score not
    finite, mask of another size than its image.
    """
    sizes = {im["id"]: [im.get("height"), im.get("width")] for im in ground_truth["images"]}
    classes = {c["id"]: c["name"] for c in ground_truth["categories"]}
    checks = (
        ("unknown image_id", lambda d: d["image_id"] not in sizes, "evaluate on the data set that was predicted"),
        ("unknown category_id", lambda d: d["category_id"] not in classes, f"the ground truth has {classes}"),
        ("score that is not finite", lambda d: not math.isfinite(d["score"]), "look for NaN in the model's output"),
        (
            "mask of another size than its image",
            lambda d: d.get("segmentation") is not None and list(d["segmentation"]["size"]) != sizes[d["image_id"]],
            "masks must be RLE of the full image, size [height, width]",
        ),
    )
    for problem, is_bad, way_out in checks:
        if bad := [d for d in detections if is_bad(d)]:
            first = {k: bad[0][k] for k in ("image_id", "category_id", "score")}
            raise ValueError(f"{len(bad)} of {len(detections)} detections: {problem}, first {first}; {way_out}")


def _by_id(category: Mapping) -> int:
    return category["id"]
