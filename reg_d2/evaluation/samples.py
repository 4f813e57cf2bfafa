"""One task's detections and objects as flat arrays, with the IoU of every pair that overlaps (E17)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util

from .ground_truth import task_annotations, task_detections
from .rle import to_rle

# Pairs below it are of no interest to any metric here: TIDE's background threshold.
MIN_IOU = 0.1
CHUNK = 2_000_000


@dataclass(frozen=True)
class Samples:
    """The detections (D), objects (G) and overlapping pairs (P) of one task over K classes and I images.

    Attributes:
        task: "bbox" or "segm".
        names: K class names, by ascending category id.
        image_ids: I image ids, ascending.
        det_image, det_class: (D,) int, indices into ``image_ids`` and ``names``. Detections are sorted by image,
            class and falling score; ties stay in the order given.
        det_score: (D,) float, 0..1.
        det_area: (D,) float, pixels, of the box or of the mask.
        det_rank: (D,) int, place among the detections of the same image and class, from 0.
        det_index: (D,) int, indices into the list of detections given.
        det_std: (D,) float, the detections' ``score_std``; None where any of them lacks it.
        gt_image, gt_class, gt_area: (G,), as for detections; objects are sorted by image, then as in the file.
        gt_crowd: (G,) bool, crowd regions and, in "segm", objects without a mask.
        gt_index: (G,) int, indices into the ground truth's annotations.
        pair_det, pair_gt, pair_iou: (P,) pairs in one image, of any classes, with IoU >= 0.1. With a crowd region
            IoU is the share of the detection inside it, as COCO has it.
        det_masks, gt_masks: D and G RLEs in "segm", in the arrays' order; empty lists in "bbox".
    """

    task: str
    names: list[str]
    image_ids: np.ndarray
    det_image: np.ndarray
    det_class: np.ndarray
    det_score: np.ndarray
    det_area: np.ndarray
    det_rank: np.ndarray
    det_index: np.ndarray
    det_std: np.ndarray | None
    gt_image: np.ndarray
    gt_class: np.ndarray
    gt_area: np.ndarray
    gt_crowd: np.ndarray
    gt_index: np.ndarray
    pair_det: np.ndarray
    pair_gt: np.ndarray
    pair_iou: np.ndarray
    det_masks: list[dict]
    gt_masks: list[dict]


def collect_samples(truth: Mapping, detections: Sequence[Mapping], task: str, names: Sequence[str]) -> Samples:
    """Arrays of one task over some classes, from checked input.

    ``truth`` of ``load_ground_truth``; ``detections`` of ``check_results``; ``task`` "bbox" or "segm"; ``names`` the
    classes to evaluate, in category order. Raises ValueError for images without a size where masks need it.
    """
    classes = {c["id"]: k for k, c in enumerate(c for c in truth["categories"] if c["name"] in set(names))}
    image_ids = np.array(sorted(im["id"] for im in truth["images"]), dtype=np.int64)
    images = {i: n for n, i in enumerate(image_ids.tolist())}
    det_index, dets = task_detections(detections, task, classes)
    gt_index, anns = task_annotations(truth, task, classes)

    det_image = np.array([images[d["image_id"]] for d in dets], dtype=np.int64)
    det_class = np.array([classes[d["category_id"]] for d in dets], dtype=np.int64)
    det_score = np.array([d["score"] for d in dets], dtype=float)
    gt_image = np.array([images[a["image_id"]] for a in anns], dtype=np.int64)
    crowd = np.array([a["iscrowd"] for a in anns], dtype=bool)
    by_det = np.lexsort((-det_score, det_class, det_image))
    by_gt = np.argsort(gt_image, kind="stable")
    dets, anns = [dets[i] for i in by_det], [anns[i] for i in by_gt]
    det_image, det_class, gt_image, crowd = det_image[by_det], det_class[by_det], gt_image[by_gt], crowd[by_gt]

    det_masks, gt_masks = [], []
    if task == "bbox":
        boxes = np.array([d["bbox"] for d in dets], dtype=float).reshape(-1, 4)
        objects = np.array([a["bbox"] for a in anns], dtype=float).reshape(-1, 4)
        area = boxes[:, 2] * boxes[:, 3]
        pairs = _box_pairs(boxes, det_image, objects, gt_image, crowd)
    else:
        sizes = _image_sizes(truth, len(dets) + len(anns))
        det_masks = [to_rle(d["segmentation"], *sizes[d["image_id"]]) for d in dets]
        gt_masks = [to_rle(a["segmentation"], *sizes[a["image_id"]]) for a in anns]
        # One by one: pycocotools 2.0.11 fails on a list of more than 255.
        area = np.array([mask_util.area(m) for m in det_masks], dtype=float)
        pairs = _mask_pairs(det_masks, det_image, gt_masks, gt_image, crowd)
    pair_det, pair_gt, pair_iou = (np.concatenate(part) for part in zip(*pairs, strict=True))
    std = [d.get("score_std") for d in dets]
    return Samples(
        task=task,
        names=list(names),
        image_ids=image_ids,
        det_image=det_image,
        det_class=det_class,
        det_score=det_score[by_det],
        det_area=area,
        det_rank=_ranks(det_image * max(len(classes), 1) + det_class),
        det_index=np.array(det_index, dtype=np.int64)[by_det],
        det_std=np.array(std, dtype=float) if std and None not in std else None,
        gt_image=gt_image,
        gt_class=np.array([classes[a["category_id"]] for a in anns], dtype=np.int64),
        gt_area=np.array([a["area"] for a in anns], dtype=float),
        gt_crowd=crowd,
        gt_index=np.array(gt_index, dtype=np.int64)[by_gt],
        pair_det=pair_det,
        pair_gt=pair_gt,
        pair_iou=pair_iou,
        det_masks=det_masks,
        gt_masks=gt_masks,
    )


def _ranks(groups: np.ndarray) -> np.ndarray:
    """Place of each element in its run of equal values."""
    begins = np.append(True, groups[1:] != groups[:-1])[: len(groups)]
    return np.arange(len(groups)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]


def _box_pairs(boxes, det_image, objects, gt_image, crowd) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """IoU of boxes (x, y, w, h) of the same image, in the order of operations of pycocotools' ``bbIou``."""
    first = np.searchsorted(gt_image, det_image, side="left")
    number = np.searchsorted(gt_image, det_image, side="right") - first
    ends = np.cumsum(number)
    cuts = np.searchsorted(ends, np.arange(CHUNK, ends[-1] + CHUNK, CHUNK)) if len(ends) else []
    yield np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    for part in np.split(np.arange(len(boxes)), cuts):
        d = np.repeat(part, number[part])
        g = np.arange(len(d)) - np.repeat(np.cumsum(number[part]) - number[part], number[part]) + first[d]
        (dx, dy, dw, dh), (gx, gy, gw, gh) = boxes[d].T, objects[g].T
        width = np.minimum(dx + dw, gx + gw) - np.maximum(dx, gx)
        height = np.minimum(dy + dh, gy + gh) - np.maximum(dy, gy)
        near = np.flatnonzero((width > 0) & (height > 0))
        d, g, both = d[near], g[near], width[near] * height[near]
        area = boxes[d, 2] * boxes[d, 3]
        iou = both / np.where(crowd[g], area, area + objects[g, 2] * objects[g, 3] - both)
        keep = iou >= MIN_IOU
        yield d[keep], g[keep], iou[keep]


def _mask_pairs(det_masks, det_image, gt_masks, gt_image, crowd) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    yield np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    for image in np.intersect1d(det_image, gt_image):
        d0, d1 = np.searchsorted(det_image, [image, image + 1])
        g0, g1 = np.searchsorted(gt_image, [image, image + 1])
        iou = np.asarray(mask_util.iou(det_masks[d0:d1], gt_masks[g0:g1], crowd[g0:g1].tolist()))
        d, g = np.nonzero(iou >= MIN_IOU)
        yield d + d0, g + g0, iou[d, g]


def _image_sizes(truth: Mapping, num_masks: int) -> dict[int, tuple[int, int]]:
    without = [im["id"] for im in truth["images"] if not im.get("height") or not im.get("width")]
    if without and num_masks:
        raise ValueError(f"{len(without)} images have no height or width, first id {without[0]}: masks need them")
    return {im["id"]: (im.get("height"), im.get("width")) for im in truth["images"]}
