"""Which images and objects a report shows: misses, false positives, the best, and a random choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util

from ..evaluation import Evaluation
from ..evaluation.rle import to_rle
from .run import Run

# Of one image in one gallery: frames of a video would fill it with the same error.
MAX_PER_IMAGE = 2
RANDOM_SEED = 0


@dataclass(frozen=True)
class Item:
    """One entry: an image, what it is about, and the classes by which it is found.

    ``image_id``; ``focus``: XYXY in pixels, or None for the whole image; ``caption``; ``classes``: names.
    """

    image_id: int
    focus: tuple[float, float, float, float] | None
    caption: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """``key``: for the page's links; ``run``: name of the run it is about, None: of all runs."""

    key: str
    title: str
    note: str
    run: str | None
    items: list[Item]


def galleries(runs: Sequence[Run], *, per_run: int = 24) -> list[Gallery]:
    """Misses, false positives and best images of each run, then random images for all.

    ``per_run``: items in each gallery of a single run; with more runs fewer, down to 8.
    """
    num = max(8, per_run // len(runs))
    found = []
    for run in runs:
        of = "" if len(runs) == 1 else f": {run.name}"
        found += [
            Gallery(
                "misses",
                f"Worst misses{of}",
                "Objects that were not found: first those without even a weak detection, large before small.",
                run.name,
                misses(run, num),
            ),
            Gallery(
                "false-positives",
                f"Most confident false positives{of}",
                "Detections that are wrong, by falling score.",
                run.name,
                false_positives(run, num),
            ),
            Gallery(
                "best",
                f"Best{of}",
                "Images with fewest errors, those with most objects first.",
                run.name,
                best_images(run, num),
            ),
        ]
    note = "Drawn without looking at the results; the same for each run."
    found.append(Gallery("random", "Random images", note, None, random_images(runs[0].evaluation, num)))
    return found


def misses(run: Run, num: int) -> list[Item]:
    """The ``num`` worst misses at the run's confidence, spread over the classes."""
    m, confidence = run.evaluation.tasks[run.main_task], run.results[run.main_task]["confidence"]
    missed = ~m.gt_ignored[0]
    shown = ~m.det_ignored[0, 0] & (m.det_score >= (confidence or 0))
    found = m.matched[0, 0][shown]
    missed[found[found >= 0]] = False
    index = np.flatnonzero(missed)
    # Score of the best detection of the right class on each object, 0 without any.
    near = np.zeros(len(m.gt_class))
    right = (m.det_class[m.pair_det] == m.gt_class[m.pair_gt]) & (m.pair_iou >= 0.5)
    np.maximum.at(near, m.pair_gt[right], m.det_score[m.pair_det[right]])
    order = index[np.lexsort((-m.gt_area[index], near[index]))]
    items = []
    for g in spread(order, m.gt_class[order], m.gt_image[order], num):
        x, y, w, h = run.evaluation.truth["annotations"][m.gt_index[g]]["bbox"]
        name = m.names[m.gt_class[g]]
        caption = f"{name}, {w:.0f} × {h:.0f} px: {_why_missed(m, g, near[g], confidence)}"
        items.append(Item(int(m.image_ids[m.gt_image[g]]), (x, y, x + w, y + h), caption, (name,)))
    return items


def false_positives(run: Run, num: int) -> list[Item]:
    """The ``num`` most confident false positives from the run's confidence up, spread over the classes."""
    m, confidence = run.evaluation.tasks[run.main_task], run.results[run.main_task]["confidence"]
    wrong = ~m.det_ignored[0, 0] & (m.matched[0, 0] < 0) & (m.det_score >= (confidence or 0))
    index = np.flatnonzero(wrong)
    order = index[np.argsort(-m.det_score[index], kind="stable")]
    items = []
    for d in spread(order, m.det_class[order], m.det_image[order], num):
        x, y, w, h = box_of(run.evaluation.detections[m.det_index[d]])
        name = m.names[m.det_class[d]]
        caption = f"{name} {m.det_score[d]:.2f}: {_why_wrong(m, d)}"
        items.append(Item(int(m.image_ids[m.det_image[d]]), (x, y, x + w, y + h), caption, (name,)))
    return items


def best_images(run: Run, num: int) -> list[Item]:
    """The ``num`` images with the smallest share of errors, most objects first."""
    m, confidence = run.evaluation.tasks[run.main_task], run.results[run.main_task]["confidence"]
    shown = ~m.det_ignored[0, 0] & (m.det_score >= (confidence or 0))
    right = shown & (m.matched[0, 0] >= 0)
    size = len(m.image_ids)
    tp = np.bincount(m.det_image[right], minlength=size)
    fp = np.bincount(m.det_image[shown & ~right], minlength=size)
    objects = np.bincount(m.gt_image[~m.gt_ignored[0]], minlength=size)
    errors = fp + objects - tp
    index = np.flatnonzero(tp > 0)
    order = index[np.lexsort((-tp[index], (errors / np.maximum(tp + errors, 1))[index]))][:num]
    return [
        Item(
            int(m.image_ids[i]),
            None,
            f"{tp[i]} of {objects[i]} objects found, {fp[i]} false positives",
            _classes_of(run.evaluation, int(m.image_ids[i])),
        )
        for i in order
    ]


def random_images(evaluation: Evaluation, num: int) -> list[Item]:
    """``num`` images, the same at each call."""
    images = evaluation.truth["images"]
    chosen = np.random.default_rng(RANDOM_SEED).permutation(len(images))[:num]
    return [
        Item(images[i]["id"], None, str(images[i].get("file_name", "")), _classes_of(evaluation, images[i]["id"]))
        for i in chosen
    ]


def box_of(detection: Mapping) -> tuple[float, float, float, float]:
    """Its box (x, y, w, h), or where it has none that of its mask."""
    box = detection.get("bbox")
    return tuple(box if box is not None else mask_util.toBbox(to_rle(detection["segmentation"], 0, 0)).tolist())


def spread(order: np.ndarray, classes: np.ndarray, images: np.ndarray, num: int) -> np.ndarray:
    """``num`` of ``order``, worst first: the worst of each class, then each class's second, and so on.

    ``order``, ``classes``, ``images`` (N,) int. At most ``MAX_PER_IMAGE`` of an image. The result keeps the order.
    """
    keep = _rank(images) < MAX_PER_IMAGE
    order, classes = order[keep], classes[keep]
    return order[np.sort(np.argsort(_rank(classes), kind="stable")[:num])]


def _rank(groups: Collection[int]) -> np.ndarray:
    """Place of each element among those of its group, in order."""
    seen: dict[int, int] = {}
    result = []
    for group in np.asarray(groups).tolist():
        result.append(seen.get(group, 0))
        seen[group] = result[-1] + 1
    return np.array(result, dtype=int)


def _why_missed(m, g: int, near: float, confidence: float | None) -> str:
    if near > 0:
        return (
            f"best score {near:.2f}, below {confidence:.2f}" if near < (confidence or 0) else "lost to another object"
        )
    pairs = np.flatnonzero((m.pair_gt == g) & (m.det_score[m.pair_det] >= (confidence or 0)))
    if not pairs.size:
        return "nothing found there"
    p = pairs[np.argmax(m.pair_iou[pairs])]
    d = m.pair_det[p]
    return f"only {m.names[m.det_class[d]]} {m.det_score[d]:.2f} there, IoU {m.pair_iou[p]:.2f}"


def _why_wrong(m, d: int) -> str:
    """As ``error_types`` sorts them."""
    pairs = np.flatnonzero((m.pair_det == d) & ~m.gt_ignored[0][m.pair_gt])
    if not pairs.size:
        return "background"
    own = pairs[m.gt_class[m.pair_gt[pairs]] == m.det_class[d]]
    own_iou = m.pair_iou[own].max() if own.size else 0.0
    p = pairs[np.argmax(m.pair_iou[pairs])]
    if 0.1 <= own_iou < 0.5:
        return f"badly placed, IoU {own_iou:.2f}"
    if m.pair_iou[p] >= 0.5 and p not in own:
        return f"wrong class, is {m.names[m.gt_class[m.pair_gt[p]]]}"
    if own_iou >= 0.5:
        return "duplicate"
    return f"wrong class and place, near {m.names[m.gt_class[m.pair_gt[p]]]}"


def _classes_of(evaluation: Evaluation, image_id: int) -> tuple[str, ...]:
    names = {c["id"]: c["name"] for c in evaluation.truth["categories"]}
    found = {a["category_id"] for a in evaluation.truth["annotations"] if a["image_id"] == image_id}
    return tuple(names[i] for i in names if i in found)
