"""Refusing input that would give a wrong number in silence: detections, result files and ground truth."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import numpy as np

from ..data.checks.structure import MAX_COORDINATE
from .records import (
    SHOWN,
    are_numbers,
    bad_boxes,
    bad_runs,
    is_rle,
    is_whole,
    naming,
    read_json,
    refuse,
    short,
)

logger = logging.getLogger(__name__)

# A COCO file's lists, and the ids that everything else goes by.
PARTS = {"images": ("id",), "annotations": ("image_id", "category_id"), "categories": ("id",)}
MEND = "mend the ground truth; tools/check_dataset.py lists what is wrong in it and can repair most"


def check_results(
    results: Sequence[Mapping] | str | os.PathLike,
    ground_truth: Mapping,
    tasks: Collection[str] = ("bbox", "segm"),
) -> Sequence[Mapping]:
    """Check COCO results against the ground truth that they are measured on; return them as a list.

    ``results``: list of dicts with image_id, category_id, score, and bbox (x, y, width, height; pixels) or segmentation
    (RLE of the full image), optionally score_std; or the JSON file of such a list. ``ground_truth``: COCO dict.
    ``tasks``: what will be measured; masks are looked at for "segm" only.

    Raises ValueError with the file, the first offenders and their number for: a file that is cut, no JSON or no list,
    missing keys, ids that are no whole numbers, unknown image or category, score that is no number, NaN or outside
    [0, 1], score_std that is no number, negative or not finite, box that is not four numbers, has NaN or negative
    size, box wholly outside its image, mask that is no RLE, not of its image's size or whose runs do not fill it.

    A box that is partly outside its image is measured as it is, which is what pycocotools does; a warning gives their
    number.
    """
    source = results
    if isinstance(source, (str, os.PathLike)):
        results = read_json(source)
        if not isinstance(results, list):
            is_object = isinstance(results, Mapping)
            found = f"an object with the keys {sorted(results)[:8]}" if is_object else json.dumps(results)[:40]
            raise ValueError(
                f"{os.fspath(source)} holds {found}, expected a list of detections, each with image_id, category_id, "
                "score and bbox or segmentation"
            )
    if not isinstance(results, Sequence):
        results = list(results)
    if not results:
        return results
    sizes = {im["id"]: (im.get("height"), im.get("width")) for im in ground_truth["images"]}
    with naming(source):
        _check_keys(results)
        _check_ids(results, ground_truth)
        _check_scores(results)
        if "bbox" in tasks:
            _check_boxes(results, sizes)
        if "segm" in tasks:
            _check_masks(results, sizes)
    return results


def check_parts(data: object) -> None:
    """Refuse what is no COCO dict.

    Raises ValueError, for records with the first offenders and their number, for: another type, a part (images,
    annotations, categories) that is missing or no list, records that are no objects, ids that are no whole numbers,
    categories without a name, images with a height or width that is no number of pixels (it may be missing).
    """
    if not isinstance(data, Mapping):
        raise ValueError(
            f"ground truth is a {type(data).__name__}: expected a COCO detection file, an object with {list(PARTS)}"
        )
    if missing := [k for k in PARTS if k not in data]:
        raise ValueError(f"ground truth has no {missing}: expected a COCO detection file, keys found {sorted(data)}")
    if odd := {k: type(data[k]).__name__ for k in PARTS if not isinstance(data[k], (list, tuple))}:
        raise ValueError(f"ground truth has parts that are no lists: {odd}; expected a list, empty where there is none")
    for part, keys in PARTS.items():
        records = data[part]
        refuse([not isinstance(r, Mapping) for r in records], records, part, "no object", MEND)
        for key in keys:
            bad = [not is_whole(r.get(key)) for r in records]
            refuse(bad, records, part, f"{key} that is missing or no whole number", MEND)
    categories, images = data["categories"], data["images"]
    refuse([c.get("name") is None for c in categories], categories, "categories", "no name", MEND)
    bad = [
        any(not (is_whole(v) and v >= 0) for k in ("height", "width") if (v := im.get(k)) is not None) for im in images
    ]
    refuse(bad, images, "images", "height or width that is no number of pixels", MEND)


def check_annotations(images: Sequence[Mapping], annotations: Sequence[Mapping]) -> None:
    """Refuse ground truth that no metric can be taken on.

    ``images``, ``annotations`` of a COCO dict that ``check_parts`` let pass, each annotation of one of the images.
    Raises ValueError with the first offenders and their number for: image ids that occur twice, iscrowd that is neither
    0 nor 1, boxes that are not four numbers, have NaN or negative size, masks that are neither an RLE nor polygons of
    finite numbers, RLE masks of another size than their image or whose runs do not fill it, boxes and polygons beyond
    ``MAX_COORDINATE``.
    """
    seen: set[int] = set()
    if repeated := [im["id"] for im in images if im["id"] in seen or seen.add(im["id"])]:
        raise ValueError(
            f"ground truth: {len(repeated)} image ids occur more than once, first {repeated[:SHOWN]}; give every image "
            "an id of its own"
        )
    kind = "annotations"
    bad = [a.get("iscrowd") not in (None, 0, 1) for a in annotations]
    refuse(bad, annotations, kind, "iscrowd that is neither 0 nor 1", MEND)
    bad = bad_boxes([a.get("bbox") for a in annotations], MAX_COORDINATE)
    far = f"or beyond {MAX_COORDINATE:,.0f} pixels"
    refuse(bad, annotations, kind, f"box that is missing, NaN, of negative size, not four numbers {far}", MEND)
    bad = [not _is_mask(a.get("segmentation")) for a in annotations]
    refuse(bad, annotations, kind, f"mask that is neither an RLE nor polygons of finite numbers, {far}", MEND)
    sizes = {im["id"]: (im.get("height"), im.get("width")) for im in images}
    with_rle = [a for a in annotations if isinstance(a.get("segmentation"), Mapping)]
    rles = [a["segmentation"] for a in with_rle]
    of_images = [sizes[a["image_id"]] for a in with_rle]
    bad = [None not in size and tuple(r["size"]) != size for r, size in zip(rles, of_images, strict=True)]
    refuse(bad, with_rle, "annotations with an RLE", "mask of another size than its image", MEND)
    refuse(bad_runs(rles), with_rle, "annotations with an RLE", "mask whose runs do not fill its size", MEND)


def _check_keys(results: Sequence[Mapping]) -> None:
    if odd := [type(d).__name__ for d in results if not isinstance(d, Mapping)]:
        raise ValueError(f"{len(odd)} of {len(results)} detections are no dicts, first a {odd[0]}")
    for key in ("image_id", "category_id", "score"):
        refuse([key not in d for d in results], results, "detections", f"no {key}", "COCO results need it")
    nothing = [d.get("bbox") is None and d.get("segmentation") is None for d in results]
    refuse(nothing, results, "detections", "neither bbox nor segmentation", "COCO results need one")


def _check_ids(results: Sequence[Mapping], ground_truth: Mapping) -> None:
    for key in ("image_id", "category_id"):
        bad = [not is_whole(d[key]) for d in results]
        refuse(bad, results, "detections", f"{key} that is no whole number", "give the ids of the ground truth")
    images = {im["id"] for im in ground_truth["images"]}
    classes = {c["id"]: c["name"] for c in ground_truth["categories"]}
    bad = [d["image_id"] not in images for d in results]
    refuse(bad, results, "detections", "unknown image_id", "evaluate on the data set that was predicted")
    bad = [d["category_id"] not in classes for d in results]
    refuse(bad, results, "detections", "unknown category_id", f"the ground truth has {classes}")


def _check_scores(results: Sequence[Mapping]) -> None:
    for key, way_out in (("score", "scores are numbers from 0 to 1"), ("score_std", "it is a standard deviation")):
        values = [d.get(key, 0.0) for d in results]
        # A look at each type is faster than one at each value.
        no_number = {t for t in set(map(type, values)) if not issubclass(t, Real)}
        refuse([type(v) in no_number for v in values], results, "detections", f"{key} that is no number", way_out)
    scores = np.array([d["score"] for d in results], dtype=float)
    refuse(
        ~np.isfinite(scores), results, "detections", "score that is not finite", "look for NaN in the model's output"
    )
    way_out = "give probabilities, not logits or percent"
    refuse((scores < 0) | (scores > 1), results, "detections", "score outside [0, 1]", way_out)
    std = np.array([d.get("score_std", 0.0) for d in results], dtype=float)
    bad = ~np.isfinite(std) | (std < 0)
    refuse(bad, results, "detections", "score_std that is negative or not finite", "it is a standard deviation")


def _check_boxes(results: Sequence[Mapping], sizes: Mapping) -> None:
    with_box = [d for d in results if d.get("bbox") is not None]
    boxes = [d["bbox"] for d in with_box]
    problem = "box with NaN or negative size, or not of four numbers"
    refuse(bad_boxes(boxes), with_box, "detections", problem, "boxes are (x, y, width, height) in pixels")
    x, y, w, h = np.array(boxes, dtype=float).reshape(-1, 4).T
    # An image without a size cannot be left.
    height, width = np.array([sizes[d["image_id"]] for d in with_box], dtype=float).reshape(-1, 2).T
    height, width = (np.where(np.isnan(v), np.inf, v) for v in (height, width))
    outside = (x >= width) | (y >= height) | (x + w < 0) | (y + h < 0)
    way_out = "boxes are (x, y, width, height) in pixels of the original image, not of a resized one"
    refuse(outside, with_box, "detections", "box wholly outside its image", way_out)
    partly = np.flatnonzero((x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1))
    if partly.size:
        logger.warning(
            "%d of %d boxes leave their image by more than a pixel, first %s: measured as given, as pycocotools does",
            partly.size,
            len(results),
            short(with_box[partly[0]]),
        )


def _check_masks(results: Sequence[Mapping], sizes: Mapping) -> None:
    with_mask = [d for d in results if d.get("segmentation") is not None]
    masks = [d["segmentation"] for d in with_mask]
    way_out = "masks must be RLE of the full image, size [height, width]"
    bad = [not is_rle(m) for m in masks]
    refuse(bad, with_mask, "detections", "mask that is no RLE", way_out)
    bad = [tuple(m["size"]) != sizes[d["image_id"]] for m, d in zip(masks, with_mask, strict=True)]
    refuse(bad, with_mask, "detections", "mask of another size than its image", way_out)
    problem = "mask whose runs do not fill its size"
    refuse(bad_runs(masks), with_mask, "detections", problem, "the RLE is damaged: encode it again")


def _is_mask(segmentation: object) -> bool:
    """Whether it is an RLE, a list of polygons, or nothing."""
    if segmentation is None or isinstance(segmentation, Mapping):
        return segmentation is None or is_rle(segmentation)
    return isinstance(segmentation, (list, tuple)) and all(are_numbers(p, MAX_COORDINATE) for p in segmentation)
