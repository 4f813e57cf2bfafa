#!/usr/bin/env python
"""Check data sets before training: their JSON, boxes, masks and pictures, and the splits against each other.

    python tools/check_dataset.py highway_train highway_val
    python tools/check_dataset.py mine/train.json:mine/train mine/val.json:mine/val --output report.json
    python tools/check_dataset.py mine_train --fix datasets/mine/train_fixed.json

A data set is a name of the catalogue, or COCO_FILE:IMAGE_FOLDER. Exit status 0: no errors (there may be warnings);
1: errors; 2: a file that cannot be checked. --fix writes a repaired copy, lists every change in OUT.changes.txt, and
answers for the copy; the input is not touched.
"""

import argparse
import json
import sys
from pathlib import Path

from reg_d2.data.catalog import CatalogEntry, resolve
from reg_d2.data.checks import Checked, check_dataset, check_file, check_splits, repair
from reg_d2.data.checks.before_run import repair_command
from reg_d2.engine import readable_errors

SHOWN_CHANGES = 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="+", metavar="DATASET", help="name in the catalogue, or COCO_FILE:IMAGE_FOLDER"
    )
    parser.add_argument("--catalog", default="configs/datasets.yaml", help="default: %(default)s")
    parser.add_argument("--no-images", action="store_true", help="check the JSON only; open no picture")
    parser.add_argument("--fix", metavar="OUT.json", help="write a repaired copy; for one data set")
    parser.add_argument("--output", metavar="REPORT.json", help="write the findings as JSON")
    parser.add_argument("--strict", action="store_true", help="exit status 1 on warnings, too")
    parser.add_argument("--workers", type=int, help="threads that open pictures (default: the CPUs)")
    return parser.parse_args(argv)


def check(entry: CatalogEntry, args: argparse.Namespace) -> Checked:
    if not args.no_images:
        return check_dataset(entry.json, entry.images, entry.name, args.workers)
    checked = check_file(entry.json, entry.name)
    checked.folder = entry.images
    return checked


def fix(checked: Checked, entry: CatalogEntry, output: Path) -> Checked:
    """Write the repaired copy and its list of changes; returns the copy, checked."""
    if output.resolve() == entry.json.resolve():
        raise ValueError(f"--fix {output} is the input itself: name another file")
    repaired, changes = repair(checked.content, checked.facts)
    repaired.report.name = str(output)
    repaired.folder = checked.folder
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(repaired.content))
    listed = output.with_suffix(".changes.txt")
    listed.write_text("".join(f"{change}\n" for change in changes))
    for change in changes[:SHOWN_CHANGES]:
        print(change)
    more = len(changes) - SHOWN_CHANGES
    print(f"{f'... and {more:,} more: ' if more > 0 else ''}{len(changes):,} changes, all in {listed}\n")
    return repaired


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        entries = resolve(args.datasets, args.catalog)
        if args.fix and len(entries) != 1:
            raise ValueError(f"--fix takes one data set at a time; {len(entries)} are given")
        checked = []
        for entry in entries:
            checked.append(check(entry, args))
            print(f"{checked[-1].report}\n")
        if args.fix:
            checked = [fix(checked[0], entries[0], Path(args.fix))]
            print(f"{checked[0].report}\n")
        across = check_splits(checked)
        for report in across:
            print(f"{report}\n")
        reports = [*(c.report for c in checked), *across]
        if args.output:
            Path(args.output).write_text(json.dumps([report.to_dict() for report in reports], indent=1) + "\n")
    if not args.fix:
        for entry, c in zip(entries, checked, strict=True):
            if c.report.fixable:
                print(repair_command(entry))
    counts = {s: sum(len(report.of(s)) for report in reports) for s in ("error", "warning", "note")}
    print(", ".join(f"{n} kinds of {severity}" for severity, n in counts.items()))
    return int(bool(counts["error"] or (args.strict and counts["warning"])))


if __name__ == "__main__":
    sys.exit(main())
