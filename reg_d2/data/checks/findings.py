"""What a check can find, and how findings are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")
SHOWN_IDS = 5
_TEXT_WIDTH = 44  # columns of the terminal table's texts


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: ``error``: would ruin or stop the run; ``warning``: data is lost or judged wrongly; ``note``.
        effect: what happens in training or evaluation.
        repair: what ``--fix`` does, or where it does nothing, what a person can do.
        fixable: whether ``--fix`` repairs it.
    """

    severity: str
    effect: str
    repair: str
    fixable: bool = True


KINDS = {
    # Records
    "image_record": Kind(ERROR, "an image without a usable file name cannot be read", "dropped with its objects"),
    "image_size": Kind(
        ERROR,
        "width or height is missing, not a whole number, or beyond what Pillow opens",
        "taken from the picture, or the image is dropped where that was not opened",
    ),
    "image_id": Kind(ERROR, "an image id is no whole number: its objects are not found", "renumbered"),
    "image_id_duplicate": Kind(
        ERROR, "both images get the objects of both", "the first image is kept, the others are dropped"
    ),
    "file_name_outside": Kind(ERROR, "the file name leaves the image folder", "dropped with its objects"),
    "file_repeated": Kind(
        WARNING,
        "the same picture is seen as two, each with half of the objects",
        "objects go to the first record; in records of another size they are dropped",
    ),
    "category_record": Kind(ERROR, "a category without a usable id or name", "dropped with its objects"),
    "category_duplicate": Kind(
        ERROR,
        "two categories share an id or a name: classes are mixed up",
        "the first is kept; objects of a second category of the same name go to it",
    ),
    "category_gap": Kind(
        NOTE, "none here: classes go by name; tools that go by id count empty classes", "nothing to do", False
    ),
    "category_unused": Kind(
        WARNING,
        "a class without objects has no class weight: training stops unless the scheme is uniform or a list",
        "annotate it, or remove the category from every split",
        False,
    ),
    "annotation_record": Kind(ERROR, "an annotation that is no object of the JSON kind", "dropped"),
    "annotation_image_unknown": Kind(ERROR, "its image is not in the file: loading stops", "dropped"),
    "annotation_category_unknown": Kind(ERROR, "its category is not in the file: loading stops", "dropped"),
    "annotation_id": Kind(WARNING, "an id that is missing or no whole number stops COCO's tools", "a new id"),
    "annotation_id_zero": Kind(
        WARNING, "COCO's own evaluator counts a match with id 0 as none (renumbered here)", "a new id"
    ),
    "annotation_id_duplicate": Kind(
        WARNING, "COCO's own evaluator sees one object of each id (renumbered here)", "the later ones get new ids"
    ),
    "annotation_duplicate": Kind(
        WARNING, "the same class and box twice in an image: one of them can never be found", "the later one is dropped"
    ),
    "annotations_none": Kind(WARNING, "the file has no objects: there is nothing to learn or to measure", "-", False),
    "crowd_invalid": Kind(ERROR, "iscrowd is neither 0 nor 1: loading stops", "set to 0"),
    # Boxes
    "box_malformed": Kind(
        ERROR, "the box is not four finite numbers: loading stops or the loss is NaN", "the mask's box, or dropped"
    ),
    "box_not_positive": Kind(
        WARNING, "zero or negative width or height: left out without a word", "the mask's box, or dropped"
    ),
    "box_outside": Kind(WARNING, "the box lies outside the image: left out without a word", "dropped"),
    "box_sticks_out": Kind(
        WARNING, "more than 1 px of the box is beyond the image's edge: training clips, evaluation does not", "clipped"
    ),
    "boxes_xyxy": Kind(
        ERROR,
        "boxes seem to be x1 y1 x2 y2 (a guess: so read, all fit; as x y width height many leave the image)",
        "all boxes of the file are converted",
    ),
    # Masks
    "mask_malformed": Kind(
        ERROR, "segmentation is neither polygons of finite numbers nor an RLE: loading stops", "dropped; the box stays"
    ),
    "polygon_short": Kind(
        WARNING, "fewer than 3 points or half a point: not used; alone, the object has a box only", "dropped"
    ),
    "polygon_flat": Kind(WARNING, "a polygon without area: an empty mask is learned", "dropped"),
    "polygon_outside": Kind(WARNING, "more than 1 px of the polygon is beyond the image's edge", "clipped"),
    "polygon_crossing": Kind(
        WARNING, "the polygon crosses itself: what is inside depends on the program", "split where it crosses"
    ),
    "rle_size": Kind(
        ERROR, "the RLE's size is not the image's: the mapper stops or the mask is elsewhere", "dropped; the box stays"
    ),
    "rle_corrupt": Kind(
        ERROR, "the RLE's runs do not fill its size: pycocotools stops or reads memory", "dropped; the box stays"
    ),
    "rle_empty": Kind(WARNING, "the RLE has no foreground: an empty mask is learned", "dropped; the box stays"),
    "box_mask_disagree": Kind(
        WARNING, "box and mask overlap by less than half: the two tasks are taught different places", "the mask's box"
    ),
    "area_missing": Kind(NOTE, "AP by size takes the box's area", "computed"),
    "area_disagree": Kind(
        NOTE, "area is not the mask's (without one, more than the box's): AP by size sorts it wrongly", "computed"
    ),
    # Counted, not wrong
    "crowd": Kind(NOTE, "crowd regions train nothing; in evaluation detections on them are ignored", "-", False),
    "box_only": Kind(NOTE, "objects without a mask train the box head alone", "-", False),
    "image_empty": Kind(NOTE, "images without objects are kept as background", "-", False),
    # Pictures
    "image_missing": Kind(ERROR, "the file is not there", "dropped with its objects"),
    "image_truncated": Kind(ERROR, "the file breaks off: it cannot be read", "dropped with its objects"),
    "image_unreadable": Kind(ERROR, "the file is no picture that Pillow reads", "dropped with its objects"),
    "image_size_differs": Kind(
        ERROR,
        "the picture's size is not the JSON's: the mapper refuses it",
        "same shape: objects are scaled; else, where they fit, the picture's size; else dropped",
    ),
    "image_exif_rotated": Kind(
        ERROR,
        "EXIF rotates the picture and the JSON has the size before: made by a tool that ignores EXIF",
        "objects are turned with the picture",
    ),
    "image_exif_turned": Kind(
        NOTE,
        "EXIF mirrors or turns the picture, which its size does not show (a half turn, or a square)",
        "look at one: if its objects are misplaced, write the pictures anew without EXIF",
        False,
    ),
    # Across splits
    "classes_differ": Kind(
        ERROR, "the splits have different classes: the run is refused", "rename or add the categories", False
    ),
    "classes_order": Kind(
        NOTE, "none here: classes go by name; tools that go by id mix them up", "nothing to do", False
    ),
    "image_in_two_splits": Kind(
        WARNING, "the same picture is in two splits: the result is too good", "remove it from one of them", False
    ),
    "image_near_duplicate": Kind(
        WARNING,
        "nearly the same picture is in two splits (perceptual hash): the result is too good",
        "split by place or drive: tools/split_dataset.py",
        False,
    ),
}


@dataclass
class Finding:
    """One kind of problem in one file (or pair of files).

    Attributes:
        kind: a key of :data:`KINDS`.
        rows: positions of all culprits in the file's list of records; for a whole file ``[]``.
        ids: their ids or names, as far as they have any; shown are the first five.
        detail: what more there is to say, for instance of the first culprit.
        count: number of culprits.
    """

    kind: str
    rows: Sequence[int] = ()
    ids: Sequence = ()
    detail: str = ""
    count: int = -1

    def __post_init__(self):
        self.rows = [int(row) for row in self.rows]
        self.count = self.count if self.count >= 0 else max(len(self.rows), len(self.ids))

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity

    def to_dict(self) -> dict:
        """Plain types, for a JSON file."""
        kind = KINDS[self.kind]
        return {
            "kind": self.kind,
            "severity": kind.severity,
            "count": self.count,
            "first": list(self.ids[:SHOWN_IDS]),
            "detail": self.detail,
            "effect": kind.effect,
            "repair": kind.repair,
            "fixable": kind.fixable,
        }


@dataclass
class Report:
    """The findings of one data set, or across several."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, *severities: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity in severities]

    @property
    def fixable(self) -> list[Finding]:
        return [finding for finding in self.findings if KINDS[finding.kind].fixable]

    def kinds(self) -> set[str]:
        return {finding.kind for finding in self.findings}

    def to_dict(self) -> dict:
        return {"name": self.name, **self.counts, "findings": [f.to_dict() for f in self.findings]}

    def __str__(self) -> str:
        counts = ", ".join(f"{n:,} {what}" for what, n in self.counts.items())
        return f"{self.name}{': ' + counts if counts else ''}\n{findings_table(self.findings)}"


def summary(findings: Iterable[Finding]) -> str:
    """One line a finding, for a log or an error message."""
    lines = []
    for finding in findings:
        first = ", ".join(str(i) for i in finding.ids[:SHOWN_IDS])
        line = f"  {finding.severity}: {finding.kind}, {finding.count}: {KINDS[finding.kind].effect}"
        lines.append(line + (f": {finding.detail}" if finding.detail else "") + (f" (first: {first})" if first else ""))
    return "\n".join(lines)


def findings_table(findings: Iterable[Finding]) -> str:
    """The findings as one table, errors first."""
    ordered = sorted(findings, key=lambda f: SEVERITIES.index(f.severity))
    if not ordered:
        return "nothing found"
    rows = []
    for finding in ordered:
        effect = KINDS[finding.kind].effect
        text = f"{effect}: {finding.detail}" if finding.detail else effect
        first = ", ".join(str(i) for i in finding.ids[:SHOWN_IDS])
        cells = [finding.severity, finding.kind, finding.count, _wrap(first, 18), _wrap(text, _TEXT_WIDTH)]
        rows.append([*cells, _wrap(KINDS[finding.kind].repair, 28)])
    return tabulate(rows, headers=["", "kind", "count", "first", "what happens", "repair"], tablefmt="simple_grid")


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)) or "-"
