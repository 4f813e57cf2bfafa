"""Small JPEGs of the gallery's items: ground truth beside each run's prediction, bounded in number and bytes."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.detection_utils import read_image

from ..evaluation.ground_truth import mask_of
from ..evaluation.rle import to_rle
from ..visualize import Objects, draw_instances
from .gallery import Gallery, Item, box_of
from .run import Run
from .style import data_uri

logger = logging.getLogger(__name__)

# Characters of all pictures together, which are data URIs: with figures and tables the page stays below 15 MB.
BUDGET = 11_000_000
WIDTH = 440
QUALITY = 78
FOCUS = (255, 214, 0)


@dataclass(frozen=True)
class Panel:
    """One picture of an item: data URI, and (width, height) in pixels, which the page reserves before it decodes it."""

    title: str
    source: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Shown:
    """A gallery as it gets into the page: items with their panels; ``left_out`` items had no room."""

    gallery: Gallery
    items: list[tuple[Item, list[Panel]]]
    left_out: int


class Illustrator:
    """Draws items; knows each image's objects and each run's detections from their run's confidence up."""

    def __init__(self, runs: Sequence[Run], image_root: Path):
        self.runs, self.root = runs, image_root
        truth = runs[0].evaluation.truth
        self.images = {image["id"]: image for image in truth["images"]}
        self.names = [c["name"] for c in truth["categories"]]
        self.index = {c["id"]: k for k, c in enumerate(truth["categories"])}
        self.objects = _by_image(a for a in truth["annotations"] if not a["iscrowd"])
        self.found = []
        for run in runs:
            least = run.results[run.main_task]["confidence"] or 0.0
            self.found.append(_by_image(d for d in run.evaluation.detections if d["score"] >= least))

    def __call__(self, item: Item) -> list[Panel]:
        """Ground truth, then a panel for each run; OSError where the image cannot be read."""
        record = self.images[item.image_id]
        image = self._read(record)
        window = crop_window(item.focus, image.shape[1], image.shape[0])
        titles = ["ground truth"] + ["prediction" if len(self.runs) == 1 else run.name for run in self.runs]
        sources = [self.objects[item.image_id]] + [found[item.image_id] for found in self.found]
        return [
            self._draw(title, image, entries, window, item.focus)
            for title, entries in zip(titles, sources, strict=True)
        ]

    def _read(self, record: Mapping) -> np.ndarray:
        image = np.ascontiguousarray(read_image(str(self.root / record["file_name"]), format="RGB"))
        size = (record.get("width") or image.shape[1], record.get("height") or image.shape[0])
        # The file may have been shrunk since it was annotated; the boxes are of the annotated size.
        return image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _draw(self, title: str, image, entries: Sequence[Mapping], window, focus) -> Panel:
        x0, y0, x1, y1 = window
        objects = self._objects(entries, image.shape[:2], window)
        crop = image[y0:y1, x0:x1].copy()
        if focus is not None:
            # Below boxes and labels, so that it hides none.
            _highlight(crop, np.array(focus) - [x0, y0, x0, y0])
        drawn = draw_instances(crop, names=self.names, width=WIDTH, **vars(objects))
        done, jpeg = cv2.imencode(".jpg", drawn[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise OSError("a picture cannot be encoded as JPEG")
        return Panel(title, data_uri(jpeg.tobytes(), "image/jpeg"), drawn.shape[1::-1])

    def _objects(self, entries: Sequence[Mapping], size: tuple[int, int], window) -> Objects:
        """Those in the window, in its coordinates."""
        x0, y0, x1, y1 = window
        boxes, classes, scores, masks = [], [], [], []
        for entry in entries:
            x, y, w, h = box_of(entry)
            if min(x + w, x1) - max(x, x0) < 1 or min(y + h, y1) - max(y, y0) < 1:
                continue
            boxes.append((x - x0, y - y0, x + w - x0, y + h - y0))
            classes.append(self.index[entry["category_id"]])
            scores.append(entry.get("score"))
            mask = mask_of(entry)
            if mask is not None:
                mask = mask_util.decode(to_rle(mask, *size)).astype(bool)[y0:y1, x0:x1]
            masks.append(mask)
        known = bool(scores) and scores[0] is not None
        return Objects(np.array(boxes).reshape(-1, 4), np.array(classes, dtype=int), scores if known else None, masks)


def illustrate(galleries: Sequence[Gallery], runs: Sequence[Run], image_root: Path | None) -> tuple[list[Shown], str]:
    """Pictures of all galleries within ``BUDGET``, each gallery's first items first; and what to say if some lack.

    ``image_root``: folder of the images; None: no pictures.
    """
    if image_root is None:
        return [], "No image folder was given, so there are no pictures."
    draw, left, unread = Illustrator(runs, Path(image_root)), BUDGET, []
    panels: dict[int, list] = defaultdict(list)
    for row in zip_longest(*(g.items for g in galleries)):
        for k, item in enumerate(row):
            if item is None or left <= 0:
                continue
            try:
                drawn = draw(item)
            except (OSError, ValueError, SyntaxError, KeyError) as error:
                unread.append(f"{draw.images[item.image_id].get('file_name')}: {error}")
                continue
            size = sum(len(p.source) for p in drawn)
            if size <= left:
                panels[k].append((item, drawn))
            # The first that has no room ends it: a later, smaller one would break the order.
            left -= size
    shown = [Shown(g, panels[k], len(g.items) - len(panels[k])) for k, g in enumerate(galleries)]
    note = ""
    if unread:
        logger.warning("The report lacks %d pictures; the first: %s", len(unread), unread[0])
        note = f"{len(unread)} pictures are missing because their image could not be read; the first: {unread[0]}"
    return shown, note


def crop_window(focus: tuple | None, width: int, height: int) -> tuple[int, int, int, int]:
    """XYXY in whole pixels of the part of an image that shows an object with what is around it.

    Three times the object and at least 40% of the image, 4:3, moved inside; the whole image without ``focus`` or where
    hardly anything would be cut off.
    """
    if focus is None:
        return 0, 0, width, height
    x0, y0, x1, y1 = focus
    w = max(3 * (x1 - x0), 4 * (y1 - y0), 0.4 * width, 0.4 * height * 4 / 3)
    h = 0.75 * w
    if w >= 0.8 * width or h >= 0.8 * height:
        return 0, 0, width, height
    left = min(max((x0 + x1 - w) / 2, 0), width - w)
    top = min(max((y0 + y1 - h) / 2, 0), height - h)
    return round(left), round(top), round(left + w), round(top + h)


def _highlight(canvas: np.ndarray, box: np.ndarray) -> None:
    """A yellow frame just outside of a box (XYXY), as far as the picture goes."""
    height, width = canvas.shape[:2]
    line = max(1, round(3 * width / WIDTH))
    x0, y0, x1, y1 = (round(float(v)) for v in box + np.array([-2, -2, 2, 2]) * line)
    first, last = (max(line, x0), max(line, y0)), (min(width - 1 - line, x1), min(height - 1 - line, y1))
    cv2.rectangle(canvas, first, last, (20, 20, 20), 2 * line)
    cv2.rectangle(canvas, first, last, FOCUS, line)


def _by_image(entries) -> Mapping[int, list]:
    found = defaultdict(list)
    for entry in entries:
        found[entry["image_id"]].append(entry)
    return found
