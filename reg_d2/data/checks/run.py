"""All checks of one file, of one data set with its pictures, and of several splits together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from .boxes import check_annotation_ids, check_boxes, check_counts
from .findings import ERROR, Report, summary
from .images import ImageFacts, check_images, inspect_images
from .masks import Masks, check_agreement
from .splits import check_classes, check_same_files, check_same_pictures
from .structure import Columns, check_structure, leaves_folder, parse


@dataclass
class Checked:
    """A file's findings, with what they were made from.

    Attributes:
        report: the findings.
        content: the parsed file.
        columns, masks: its sound records.
        folder: of the images.
        facts: what opening each picture showed, by file name; empty where none was opened.
    """

    report: Report
    content: dict
    columns: Columns
    masks: Masks
    folder: Path = Path()
    facts: dict[str, ImageFacts] = field(default_factory=dict)


def check_content(content: dict, name: str, facts: dict[str, ImageFacts] | None = None) -> Checked:
    """Check a parsed COCO file; ``facts`` of its pictures, by file name, where they were opened."""
    columns, findings = check_structure(content)
    masks = Masks(columns)
    boxes = check_boxes(columns, masks.usable)
    findings += [*masks.findings, *boxes, *check_annotation_ids(columns)]
    if "boxes_xyxy" not in {f.kind for f in boxes}:
        findings += check_agreement(columns, masks)
    findings += check_counts(columns, masks.usable)
    findings += check_images(columns, facts or {})
    counts = {"images": len(content["images"]), "annotations": len(content["annotations"])}
    counts |= {"categories": len(content["categories"])}
    if facts:
        counts["pictures opened"] = len(facts)
    return Checked(Report(name, findings, counts), content, columns, masks, facts=facts or {})


def check_file(path: str | os.PathLike, name: str | None = None) -> Checked:
    """Check a COCO file's JSON; no picture is opened.

    Raises:
        FileNotFoundError, UnusableFileError: there is nothing to check, see :func:`parse`.
    """
    return check_content(parse(path), name or os.fspath(path))


def refuse_errors(checked: Checked) -> None:
    """What has errors is repaired before anything is made of it: unsound records would be lost without a word.

    Raises:
        ValueError: the file has errors; the message has the kinds and the command that repairs them.
    """
    if errors := checked.report.of(ERROR):
        text = f"{checked.report.name} has errors, repair it first (tools/check_dataset.py --fix):"
        raise ValueError(f"{text}\n{summary(errors)}")


def check_dataset(path: str | os.PathLike, folder: str | os.PathLike, name: str, workers: int | None = None) -> Checked:
    """Check a COCO file and open each of its pictures.

    Args:
        path: the COCO file.
        folder: of its images.
        name: for the report.
        workers: threads that open pictures; default: as many as CPUs.
    """
    content = parse(path)
    names = picture_names(content)
    facts = inspect_images([Path(folder, n) for n in names], workers)
    checked = check_content(content, name, dict(zip(names, facts, strict=True)))
    checked.folder = Path(folder)
    return checked


def picture_names(content: dict) -> list[str]:
    """The distinct file names of a COCO file that may be opened: those that stay in the image folder."""
    records = [record for record in content["images"] if type(record) is dict]
    names = dict.fromkeys(n for record in records if type(n := record.get("file_name")) is str and n.isprintable())
    return [name for name in names if name and not leaves_folder(name)]


def check_splits(checked: list[Checked]) -> list[Report]:
    """Check each pair of splits against each other; one report a pair."""
    reports = []
    for a, b in combinations(checked, 2):
        findings = check_classes(a.columns, b.columns)
        if a.facts and b.facts:
            findings += check_same_pictures(a.facts, b.facts)
        else:
            findings += check_same_files(a.columns, b.columns, (a.folder, b.folder))
        reports.append(Report(f"{a.report.name} and {b.report.name}", findings))
    return reports
