"""One training set from several annotation sets: detection and segmentation of the same images, or different images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from .checks.run import Checked, refuse_errors

LEAST_IOU = 0.5


@dataclass
class MergeReport:
    """What became of the objects.

    Attributes:
        matched: objects that are in both files and became one.
        only_first, only_second: objects that are in one file, and were kept.
        left_out: objects of the second file in images that have another size there.
        shared_images, only_first_images, only_second_images: images, by file name.
        conflicts: one line each: same place and another class, two masks of one object, or images of another size.
    """

    matched: int = 0
    only_first: int = 0
    only_second: int = 0
    left_out: int = 0
    shared_images: int = 0
    only_first_images: int = 0
    only_second_images: int = 0
    conflicts: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kept = f"{self.left_out} left out of images that differ in size" if self.left_out else "all kept"
        return (
            f"images: {self.shared_images} in both, {self.only_first_images} in the first and "
            f"{self.only_second_images} in the second only\nobjects: {self.matched} matched, {self.only_first} in the "
            f"first and {self.only_second} in the second only, {kept}\nconflicts: {len(self.conflicts)}"
        )


def merge(first: Checked, second: Checked, least_iou: float = LEAST_IOU) -> tuple[dict, MergeReport]:
    """Merge two checked COCO files, images by file name, classes by name.

    In an image of both files, objects of the same class that overlap enough, best pairs first, become one: with the
    box of the first, and the mask of the second where that has one, else of the first. All others are kept. Crowd
    regions are never matched. An image that has another size in the second file is taken from the first alone.

    Args:
        first: the detection set.
        second: the segmentation set.
        least_iou: of two boxes of one object, in (0, 1].

    Returns:
        A COCO dict, ids from 1, and what became of the objects.

    Raises:
        ValueError: a file has errors (see ``tools/check_dataset.py``), or one picture twice in different sizes, or
            least_iou is out of range.
    """
    if not 0 < least_iou <= 1:
        raise ValueError(f"the least IoU is {least_iou}; expected a number above 0 and up to 1")
    for checked in (first, second):
        refuse_errors(checked)
    merger = _Merger(least_iou)
    names = list(dict.fromkeys([*first.columns.names, *second.columns.names]))
    sides = [_by_image(checked) for checked in (first, second)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        merger.add_image(name, sides[0].get(name), sides[1].get(name))
    return merger.build(names), merger.report


@dataclass
class _Image:
    record: dict
    objects: list[tuple[str, dict, bool]] = field(default_factory=list)  # class name, annotation, has a usable mask


def _by_image(checked: Checked) -> dict[str, _Image]:
    """Images by file name; of one that is there twice, the first, with the objects of all."""
    columns, content = checked.columns, checked.content
    images = [_Image(content["images"][row]) for row in columns.image_rows]
    for i, row in enumerate(columns.annotation_rows):
        annotation = content["annotations"][row]
        images[columns.image[i]].objects.append(
            (columns.names[columns.category[i]], annotation, bool(checked.masks.usable[i]))
        )
    found: dict[str, _Image] = {}
    for name, image in zip(columns.file_names, images, strict=True):
        first = found.setdefault(name, image)
        if first is image:
            continue
        if _size(first) != _size(image):
            raise ValueError(
                f"{checked.report.name} has {name} twice, as {_size(first)} and {_size(image)}: which is right? "
                "tools/check_dataset.py --fix keeps the first"
            )
        first.objects += image.objects
    return found


def _size(image: _Image) -> str:
    return f"{int(image.record['width'])}x{int(image.record['height'])}"


class _Merger:
    def __init__(self, least_iou: float):
        self.report = MergeReport()
        self._least_iou = least_iou
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def add_image(self, name: str, a: _Image | None, b: _Image | None) -> None:
        report = self.report
        if a and b and _size(a) != _size(b):
            report.conflicts.append(
                f"{name}: {_size(a)} in the first, {_size(b)} in the second: taken from the first, and "
                f"{len(b.objects)} objects of the second left out"
            )
            report.left_out += len(b.objects)
            b = None
        report.shared_images += bool(a and b)
        report.only_first_images += bool(a and not b)
        report.only_second_images += bool(b and not a)
        self._images.append({**(a or b).record, "id": len(self._images) + 1})
        left, right = (a.objects if a else []), (b.objects if b else [])
        pairs = self._pairs(name, left, right)
        for i, (title, annotation, has_mask) in enumerate(left):
            if i in pairs:
                annotation = self._join(name, annotation, has_mask, *right[pairs[i]][1:])
            self._add(title, annotation)
        taken = set(pairs.values())
        for j, (title, annotation, _) in enumerate(right):
            if j not in taken:
                self._add(title, annotation)
        report.matched += len(pairs)
        report.only_first += len(left) - len(pairs)
        report.only_second += len(right) - len(pairs)

    def build(self, names: list[str]) -> dict:
        number = {name: i for i, name in enumerate(names, start=1)}
        for annotation in self._annotations:
            annotation["category_id"] = number[annotation["category_id"]]
        categories = [{"id": i, "name": name} for name, i in number.items()]
        return {"images": self._images, "annotations": self._annotations, "categories": categories}

    def _pairs(self, name: str, left: list, right: list) -> dict[int, int]:
        """Index in ``left`` -> index in ``right``; overlaps of different classes are noted."""
        if not left or not right:
            return {}
        iou = _iou(*(np.array([x[1]["bbox"] for x in side], dtype=np.float64) for side in (left, right)))
        pairs, taken, other = {}, set(), defaultdict(list)
        for i, j in zip(*np.unravel_index(np.argsort(-iou, axis=None, kind="stable"), iou.shape), strict=True):
            if iou[i, j] < self._least_iou:
                break
            if i in pairs or j in taken or left[i][1].get("iscrowd") or right[j][1].get("iscrowd"):
                continue
            if left[i][0] == right[j][0]:
                pairs[int(i)] = int(j)
                taken.add(j)
            else:
                other[i].append((j, iou[i, j]))
        for i, found in other.items():
            for j, overlap in found:
                if i not in pairs and j not in taken:
                    text = f"{name}: {left[i][0]} {left[i][1].get('id')} of the first and {right[j][0]} "
                    text += f"{right[j][1].get('id')} of the second overlap (IoU {overlap:.2f}): both are kept"
                    self.report.conflicts.append(text)
        return pairs

    def _join(self, name: str, a: dict, a_mask: bool, b: dict, b_mask: bool) -> dict:
        if a_mask and b_mask and a["segmentation"] != b["segmentation"]:
            text = f"{name}: objects {a.get('id')} and {b.get('id')} both have a mask: the second's is taken"
            self.report.conflicts.append(text)
        return {**a, "segmentation": b["segmentation"], "area": b.get("area", a.get("area"))} if b_mask else a

    def _add(self, title: str, annotation: dict) -> None:
        entry = {**annotation, "id": len(self._annotations) + 1, "image_id": len(self._images), "category_id": title}
        self._annotations.append(entry)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) overlap of boxes (N, 4) and (M, 4), x y width height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    common = (high - low).clip(min=0).prod(2)
    return common / np.maximum(a[:, 2:].prod(1)[:, None] + b[:, 2:].prod(1)[None] - common, 1e-9)
