"""Refusing input that would give a wrong number in silence: detections, result files and ground truth."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from numbers import Real

import numpy as np

from .rle import run_lengths

logger = logging.getLogger(__name__)

SHOWN = 3


def read_json(path: str | os.PathLike) -> dict | list:
    """Read a JSON file; ValueError that names the file and the place where it breaks off or is no JSON."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated")
        what = "it ends too early: was its writing or copying cut off?" if cut else "it is no JSON."
        raise ValueError(
            f"{os.fspath(path)}: {what} ({error.msg} at character {error.pos} of {len(text)}); write it again"
        ) from None


def check_results(
    results: Sequence[Mapping] | str | os.PathLike,
    ground_truth: Mapping,
    tasks: Collection[str] = ("bbox", "segm"),
) -> Sequence[Mapping]:
    """Check COCO results against the ground truth that they are measured on; return them as a list.

    ``results``: list of dicts with image_id, category_id, score, and bbox (x, y, width, height; pixels) or segmentation
    (RLE of the full image), optionally score_std; or the JSON file of such a list. ``ground_truth``: COCO dict.
    ``tasks``: what will be measured; masks are looked at for "segm" only.

    Raises ValueError with the first offenders and their number for: a file that is cut or no JSON, missing keys,
    unknown image or category, score that is NaN or outside [0, 1], score_std that is negative or not finite, box with
    NaN or negative size, box wholly outside its image, mask that is no RLE or not of its image's size.

    A box that is partly outside its image is measured as it is, which is what pycocotools does; a warning gives their
    number.
    """
    if isinstance(results, (str, os.PathLike)):
        path, results = results, read_json(results)
        if isinstance(results, Mapping):
            raise ValueError(
                f"{os.fspath(path)} holds an object with the keys {sorted(results)[:8]}, expected a list of "
                "detections, each with image_id, category_id, score and bbox or segmentation"
            )
    if not isinstance(results, Sequence):
        results = list(results)
    if not results:
        return results
    _check_keys(results)
    _check_ids(results, ground_truth)
    _check_scores(results)
    sizes = {im["id"]: (im.get("height"), im.get("width")) for im in ground_truth["images"]}
    if "bbox" in tasks:
        _check_boxes(results, sizes)
    if "segm" in tasks:
        _check_masks(results, sizes)
    return results


def check_annotations(images: Sequence[Mapping], annotations: Sequence[Mapping]) -> None:
    """Refuse ground truth that no metric can be taken on.

    ``images``, ``annotations`` of a COCO dict, each annotation of one of the images. Raises ValueError with the first
    offenders and their number for: image ids that occur twice, boxes with NaN or negative size, RLE masks of another
    size than their image.
    """
    seen: set[int] = set()
    if repeated := [im["id"] for im in images if im["id"] in seen or seen.add(im["id"])]:
        raise ValueError(
            f"ground truth: {len(repeated)} image ids occur more than once, first {repeated[:SHOWN]}; give every image "
            "an id of its own"
        )
    bad = _bad_boxes([a.get("bbox") or () for a in annotations])
    _refuse(bad, annotations, "annotations", "box that is missing, NaN or of negative size", "mend the ground truth")
    sizes = {im["id"]: [im.get("height"), im.get("width")] for im in images}
    bad = [
        isinstance(a.get("segmentation"), Mapping)
        and None not in sizes[a["image_id"]]
        and list(a["segmentation"].get("size", ())) != sizes[a["image_id"]]
        for a in annotations
    ]
    _refuse(bad, annotations, "annotations", "mask of another size than its image", "mend the ground truth")


def _check_keys(results: Sequence[Mapping]) -> None:
    if odd := [type(d).__name__ for d in results if not isinstance(d, Mapping)]:
        raise ValueError(f"{len(odd)} of {len(results)} detections are no dicts, first a {odd[0]}")
    for key in ("image_id", "category_id", "score"):
        _refuse([key not in d for d in results], results, "detections", f"no {key}", "COCO results need it")
    nothing = [d.get("bbox") is None and d.get("segmentation") is None for d in results]
    _refuse(nothing, results, "detections", "neither bbox nor segmentation", "COCO results need one")


def _check_ids(results: Sequence[Mapping], ground_truth: Mapping) -> None:
    images = {im["id"] for im in ground_truth["images"]}
    classes = {c["id"]: c["name"] for c in ground_truth["categories"]}
    bad = [d["image_id"] not in images for d in results]
    _refuse(bad, results, "detections", "unknown image_id", "evaluate on the data set that was predicted")
    bad = [d["category_id"] not in classes for d in results]
    _refuse(bad, results, "detections", "unknown category_id", f"the ground truth has {classes}")


def _check_scores(results: Sequence[Mapping]) -> None:
    no_number = {t for t in {type(d["score"]) for d in results} if not issubclass(t, Real)}
    bad = [type(d["score"]) in no_number for d in results]
    _refuse(bad, results, "detections", "score that is no number", "scores are numbers from 0 to 1")
    scores = np.array([d["score"] for d in results], dtype=float)
    _refuse(
        ~np.isfinite(scores), results, "detections", "score that is not finite", "look for NaN in the model's output"
    )
    way_out = "give probabilities, not logits or percent"
    _refuse((scores < 0) | (scores > 1), results, "detections", "score outside [0, 1]", way_out)
    std = np.array([d.get("score_std", 0.0) for d in results], dtype=float)
    bad = ~np.isfinite(std) | (std < 0)
    _refuse(bad, results, "detections", "score_std that is negative or not finite", "it is a standard deviation")


def _check_boxes(results: Sequence[Mapping], sizes: Mapping) -> None:
    with_box = [d for d in results if d.get("bbox") is not None]
    boxes = [d["bbox"] for d in with_box]
    way_out = "boxes are (x, y, width, height) in pixels"
    _refuse(_bad_boxes(boxes), with_box, "detections", "box with NaN or negative size", way_out)
    x, y, w, h = np.array(boxes, dtype=float).reshape(-1, 4).T
    # An image without a size cannot be left.
    height, width = np.array([sizes[d["image_id"]] for d in with_box], dtype=float).reshape(-1, 2).T
    height, width = (np.where(np.isnan(v), np.inf, v) for v in (height, width))
    outside = (x >= width) | (y >= height) | (x + w < 0) | (y + h < 0)
    way_out = "boxes are (x, y, width, height) in pixels of the original image, not of a resized one"
    _refuse(outside, with_box, "detections", "box wholly outside its image", way_out)
    partly = np.flatnonzero((x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1))
    if partly.size:
        logger.warning(
            "%d of %d boxes leave their image by more than a pixel, first %s: measured as given, as pycocotools does",
            partly.size,
            len(results),
            _short(with_box[partly[0]]),
        )


def _check_masks(results: Sequence[Mapping], sizes: Mapping) -> None:
    with_mask = [d for d in results if d.get("segmentation") is not None]
    masks = [d["segmentation"] for d in with_mask]
    way_out = "masks must be RLE of the full image, size [height, width]"
    bad = [not isinstance(m, Mapping) or "size" not in m or "counts" not in m for m in masks]
    _refuse(bad, with_mask, "detections", "mask that is no RLE", way_out)
    bad = [tuple(m["size"]) != sizes[d["image_id"]] for m, d in zip(masks, with_mask, strict=True)]
    _refuse(bad, with_mask, "detections", "mask of another size than its image", way_out)
    text = [i for i, m in enumerate(masks) if isinstance(m["counts"], (str, bytes))]
    bad = [not isinstance(m["counts"], (str, bytes)) and sum(m["counts"]) != m["size"][0] * m["size"][1] for m in masks]
    for i, runs in zip(text, run_lengths([masks[i] for i in text]), strict=True):
        height, width = masks[i]["size"]
        bad[i] = runs is None or bool((runs < 0).any()) or int(runs.sum()) != height * width
    _refuse(bad, with_mask, "detections", "mask whose runs do not fill its size", "the RLE is damaged: encode it again")


def _bad_boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    try:
        flat = np.fromiter(chain.from_iterable(boxes), dtype=float)
        whole = len(flat) == 4 * len(boxes) and all(len(b) == 4 for b in boxes)
    except (TypeError, ValueError):
        whole = False
    if not whole:
        return np.array([not (len(b) == 4 and all(isinstance(v, Real) for v in b)) for b in boxes])
    flat = flat.reshape(-1, 4)
    return ~np.isfinite(flat).all(axis=1) | (flat[:, 2:] < 0).any(axis=1)


def _refuse(bad: Sequence[bool], items: Sequence[Mapping], kind: str, problem: str, way_out: str) -> None:
    found = np.flatnonzero(np.asarray(bad, dtype=bool))
    if found.size:
        first = ", ".join(str(_short(items[i])) for i in found[:SHOWN])
        raise ValueError(f"{found.size} of {len(items)} {kind}: {problem}, first {first}; {way_out}")


def _short(item: Mapping) -> dict:
    return {k: item[k] for k in ("id", "image_id", "category_id", "score", "score_std", "bbox") if k in item}
