"""A repaired copy of a COCO file, with every change listed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .findings import Finding
from .geometry import mended, scaled, turned
from .images import ImageFacts
from .masks import FLAT_AREA, hull_area, is_short
from .run import Checked, check_content
from .structure import MAX_COORDINATE, are_numbers, shown, whole

# Mended in this order, each stage to its end before the next: boxes cannot be clipped before their form is known,
# nor a mask be turned with its picture before it is known to be one.
STAGES = (
    "image_record file_name_outside image_id image_id_duplicate image_size category_record category_duplicate "
    "annotation_record annotation_image_unknown annotation_category_unknown crowd_invalid box_malformed",
    "mask_malformed polygon_short rle_size rle_corrupt rle_empty",
    "boxes_xyxy",
    "image_missing image_truncated image_unreadable image_size_differs image_exif_rotated",
    "polygon_flat polygon_crossing polygon_outside",
    "box_not_positive box_outside box_sticks_out",
    "box_mask_disagree",
    "file_repeated annotation_id annotation_id_zero annotation_id_duplicate annotation_duplicate area_missing "
    "area_disagree",
)
_SAME_SHAPE = 0.01  # relative difference of two aspect ratios
_MOST_ROUNDS = 40


@dataclass(frozen=True)
class Change:
    """One change of one record; ``str`` gives the line that is listed."""

    kind: str
    part: str
    id: object
    text: str

    def __str__(self) -> str:
        return f"{self.part[:-1] if self.part != 'categories' else 'category'} {self.id}: {self.text} ({self.kind})"


def repair(content: dict, facts: dict[str, ImageFacts] | None = None) -> tuple[Checked, list[Change]]:
    """Mend whatever a check calls fixable.

    Args:
        content: of :func:`parse`; it is not changed.
        facts: of its pictures, by file name, where they were opened.

    Returns:
        The repaired copy, checked, and the changes in the order in which they were made.
    """
    copied = {part: list(value) for part, value in content.items() if part in ("images", "annotations", "categories")}
    content, changes = {**content, **copied}, []
    for _ in range(_MOST_ROUNDS):
        checked = check_content(content, "repaired", facts)
        kinds = checked.report.kinds()
        stage = next((s for s in map(str.split, STAGES) if kinds & set(s)), None)
        if stage is None:
            break
        editor = _Editor(checked, facts or {})
        for finding in sorted(checked.report.findings, key=lambda f: f.kind):
            if finding.kind in stage:
                editor.mend(finding)
        changes += editor.changes
        content = editor.result()
    return checked, changes


class _Editor:
    """One round of repairs on one checked file. Records are replaced, never changed in place."""

    def __init__(self, checked: Checked, facts: dict[str, ImageFacts]):
        self.columns, self.masks, self.facts = checked.columns, checked.masks, facts
        self.content = {**checked.content, **{p: list(checked.content[p]) for p in ("images", "annotations")}}
        self.content["categories"] = list(checked.content["categories"])
        self.changes: list[Change] = []
        self._dropped = {"images": set(), "annotations": set(), "categories": set()}
        # Position in the file -> position in the columns.
        self._at = {int(row): i for i, row in enumerate(self.columns.annotation_rows)}
        self._ids = {whole(a.get("id")) for a in self.content["annotations"] if type(a) is dict}

    def result(self) -> dict:
        kept = {
            part: [record for row, record in enumerate(self.content[part]) if row not in dropped]
            for part, dropped in self._dropped.items()
        }
        return {**self.content, **kept}

    def mend(self, finding: Finding) -> None:
        kind = finding.kind
        part = "categories" if kind.startswith("category") else "annotations"
        if kind.startswith(("image_", "file_")):
            part = "images"
        fixer = getattr(_Editor, f"_{kind}", None) or _SHARED.get(kind, _Editor._drop)
        for row in finding.rows:
            if row not in self._dropped[part]:
                fixer(self, kind, part, row)

    # What a repair consists of

    def _drop(self, kind: str, part: str, row: int, why: str = "dropped") -> None:
        self._dropped[part].add(row)
        self._note(kind, part, row, why)

    def _set(self, kind: str, part: str, row: int, text: str, **values) -> None:
        self._note(kind, part, row, text)
        self.content[part][row] = {**self.content[part][row], **values}

    def _note(self, kind: str, part: str, row: int, text: str) -> None:
        record = self.content[part][row]
        number = record.get("id") if type(record) is dict else None
        self.changes.append(Change(kind, part, f"at position {row}" if number is None else shown(number), text))

    def _annotations_of(self, image_row: int) -> list[int]:
        index = np.flatnonzero(self.columns.image_rows == image_row)
        return self.columns.annotation_rows[np.isin(self.columns.image, index)].tolist()

    # Records

    def _image_id(self, kind, part, row):
        old = self.content[part][row].get("id")
        taken = {whole(r.get("id")) for r in self.content[part] if type(r) is dict}
        meant = _digits(old)
        new = (
            meant
            if meant is not None and meant not in taken
            else max((n for n in taken if n is not None), default=0) + 1
        )
        self._set(kind, part, row, f"id {shown(old)} becomes {new}", id=new)
        if old is None:
            return
        for i, record in enumerate(self.content["annotations"]):
            if type(record) is dict and type(record.get("image_id")) is type(old) and record["image_id"] == old:
                self._set(kind, "annotations", i, f"image {shown(old)} becomes {new}", image_id=new)

    def _image_size(self, kind, part, row):
        fact = self.facts.get(self.content[part][row].get("file_name"))
        if fact is None or fact.problem:
            return self._drop(kind, part, row)
        width, height = fact.size
        self._set(kind, part, row, f"size is {width}x{height}, as the picture's", width=width, height=height)

    def _category_duplicate(self, kind, part, row):
        number, name = whole(self.content[part][row]["id"]), self.content[part][row]["name"]
        if name in self.columns.names and number not in self.columns.category_ids:
            first = self.columns.category_ids[self.columns.names.index(name)]
            for i, record in enumerate(self.content["annotations"]):
                if type(record) is dict and whole(record.get("category_id")) == number:
                    self._set(kind, "annotations", i, f"category {number} becomes {first}", category_id=first)
        self._drop(kind, part, row)

    def _annotation_image_unknown(self, kind, part, row):
        self._known(kind, row, "image_id", set(self.columns.image_ids.tolist()))

    def _annotation_category_unknown(self, kind, part, row):
        self._known(kind, row, "category_id", set(self.columns.category_ids))

    def _known(self, kind, row, key, known):
        number = _digits(self.content["annotations"][row].get(key))
        if number in known:
            return self._set(kind, "annotations", row, f"{key} is the number {number}", **{key: number})
        self._drop(kind, "annotations", row)

    def _crowd_invalid(self, kind, part, row):
        self._set(kind, part, row, "iscrowd is 0", iscrowd=0)

    def _box_malformed(self, kind, part, row):
        if not self.content[part][row].get("segmentation"):
            return self._drop(kind, part, row)
        # An empty box is then replaced by the mask's.
        self._set(kind, part, row, "box removed", bbox=[0, 0, 0, 0])

    def _file_repeated(self, kind, part, row):
        record = self.content[part][row]
        same = [i for i, name in enumerate(self.columns.file_names) if name == record["file_name"]]
        first, sizes = self.columns.image_ids[same[0]], self.columns.sizes[same]
        if (sizes == sizes[0]).all():
            for i in self._annotations_of(row):
                self._set(kind, "annotations", i, f"image becomes {first}", image_id=int(first))
        self._drop(kind, part, row)

    def _new_id(self, kind, part, row):
        old, new = self.content[part][row].get("id"), len(self._ids)
        while new in self._ids or new < 1:
            new += 1
        self._ids.add(new)
        self._set(kind, part, row, f"id {shown(old)} becomes {new}", id=new)

    # Masks

    def _unmask(self, kind, part, row):
        self._set(kind, part, row, "mask dropped, the box stays", segmentation=[])

    def _mask_malformed(self, kind, part, row):
        value = self.content[part][row].get("segmentation")
        if type(value) is list:
            if _is_polygon(value):
                return self._set(kind, part, row, "put into a list of polygons", segmentation=[value])
            if kept := [p for p in value if _is_polygon(p)]:
                return self._set(kind, part, row, f"{len(value) - len(kept)} polygons dropped", segmentation=kept)
        self._unmask(kind, part, row)

    def _mend_polygons(self, kind, part, row):
        old = self.content[part][row]["segmentation"]
        width, height = self.columns.sizes[self.columns.image[self._at[row]]].tolist()
        if kind == "polygon_short":
            new = [p for p in old if not is_short(p)]
        elif kind == "polygon_flat":
            new = [p for p in old if hull_area(p) >= FLAT_AREA]
        else:
            new = [part for p in old for part in mended(p, width, height)]
        if new != old:
            self._set(kind, part, row, f"{len(old)} polygons become {len(new)}", segmentation=new)

    # Boxes

    def _boxes_xyxy(self, kind, part, row):
        x1, y1, x2, y2 = self.content[part][row]["bbox"]
        box = [x1, y1, x2 - x1, y2 - y1]
        self._set(kind, part, row, f"box {[x1, y1, x2, y2]} becomes {box}", bbox=box)

    def _from_mask(self, kind, part, row):
        i = self._at[row]
        if not self.masks.usable[i]:
            return self._drop(kind, part, row)
        x1, y1, x2, y2 = self.masks.boxes[i].tolist()
        self._set(kind, part, row, "box is the mask's", bbox=[x1, y1, x2 - x1, y2 - y1])

    def _box_sticks_out(self, kind, part, row):
        i = self._at[row]
        size = self.columns.sizes[self.columns.image[i]]
        x, y, w, h = self.columns.boxes[i]
        low, high = np.clip([x, y], 0, size), np.clip([x + w, y + h], 0, size)
        box = [*low.tolist(), *(high - low).tolist()]
        self._set(kind, part, row, f"box {self.columns.boxes[i].tolist()} becomes {box}", bbox=box)

    def _set_area(self, kind, part, row):
        i = self._at[row]
        width, height = self.columns.boxes[i, 2:]
        area = round(float(self.masks.area[i] if self.masks.usable[i] else width * height), 2)
        self._set(kind, part, row, f"area {shown(self.content[part][row].get('area'))} becomes {area}", area=area)

    # Pictures

    def _image_exif_rotated(self, kind, part, row):
        record = self.content[part][row]
        fact = self.facts[record["file_name"]]
        move = lambda a: turned(a, fact.orientation, (fact.width, fact.height))  # noqa: E731
        self._move_image(kind, row, fact, f"turned with EXIF orientation {fact.orientation}", move)

    def _image_size_differs(self, kind, part, row):
        record = self.content[part][row]
        fact = self.facts[record["file_name"]]
        old, new = (whole(record["width"]), whole(record["height"])), fact.size
        if math.isclose(old[0] / old[1], new[0] / new[1], rel_tol=_SAME_SHAPE):
            return self._move_image(kind, row, fact, "scaled", lambda a: scaled(a, old, new))
        rows = self._annotations_of(row)
        boxes = self.columns.boxes[[self._at[i] for i in rows]]
        # An RLE has the wrong size's shape: it cannot be placed in another.
        runs = any(type(self.content["annotations"][i].get("segmentation")) is dict for i in rows)
        if runs or (boxes[:, :2] + boxes[:, 2:] > np.array(new) + 1).any():
            return self._drop(kind, part, row, f"dropped: its objects do not fit {new[0]}x{new[1]}")
        self._move_image(kind, row, fact, "kept", lambda a: a)

    def _move_image(self, kind, row, fact, text, move):
        width, height = fact.size
        self._set(kind, "images", row, f"size is {width}x{height}, objects are {text}", width=width, height=height)
        for i in self._annotations_of(row):
            moved = move(self.content["annotations"][i])
            if moved is not self.content["annotations"][i]:
                self._set(kind, "annotations", i, text, **moved)
                if "area" not in moved:
                    self.content["annotations"][i].pop("area", None)


_SHARED = {
    **dict.fromkeys(("annotation_id", "annotation_id_zero", "annotation_id_duplicate"), _Editor._new_id),
    **dict.fromkeys(("rle_size", "rle_corrupt", "rle_empty"), _Editor._unmask),
    **dict.fromkeys(("polygon_short", "polygon_flat", "polygon_crossing", "polygon_outside"), _Editor._mend_polygons),
    **dict.fromkeys(("box_not_positive", "box_outside", "box_mask_disagree"), _Editor._from_mask),
    **dict.fromkeys(("area_missing", "area_disagree"), _Editor._set_area),
}


def _digits(value) -> int | None:
    """The whole number that a string like "12" means; None for anything else."""
    return whole(int(value)) if type(value) is str and value.isascii() and value.isdigit() and len(value) < 16 else None


def _is_polygon(value) -> bool:
    return (
        type(value) is list
        and are_numbers(value)
        and not is_short(value)
        and all(abs(v) <= MAX_COORDINATE for v in value)
    )
