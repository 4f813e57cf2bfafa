#!/usr/bin/env python
"""Divide a COCO file into train, validation and test by group, with rare classes in every part.

    python tools/split_dataset.py mine/all.json --group '^(drive[0-9]+)_' --output mine
    python tools/split_dataset.py mine/all.json --groups places.csv --shares train=0.8 val=0.2 --output mine

Images of one group (a drive, a video, a place) stay together. Writes OUTPUT/<part>.json; the same input and seed give
the same parts. Exit status 1: a class is missing from a part.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from tabulate import tabulate

from reg_d2.data.checks import check_content, check_file
from reg_d2.data.split import groups_by_pattern, groups_by_table, split_dataset
from reg_d2.engine import readable_errors


def share(text: str) -> tuple[str, float]:
    """'train=0.8' -> ('train', 0.8)."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=SHARE, such as train=0.8") from None


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="COCO file")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--group", metavar="REGEX", help="what it matches in a file name is the group")
    how.add_argument("--groups", metavar="CSV", help="two columns: file name, group")
    default = [("train", 0.7), ("val", 0.15), ("test", 0.15)]
    parser.add_argument("--shares", type=share, nargs="+", default=default, metavar="NAME=SHARE")
    parser.add_argument("--seed", type=int, default=0, help="decides between groups of the same size")
    parser.add_argument("--output", type=Path, required=True, help="folder for the parts")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        checked = check_file(args.json)
        group_of = partial(groups_by_pattern, pattern=args.group)
        if args.groups:
            group_of = partial(groups_by_table, path=args.groups)
        parts = split_dataset(checked, group_of, dict(args.shares), args.seed)
        args.output.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            (args.output / f"{name}.json").write_text(json.dumps(content))
    counts = {name: check_content(content, name).columns.category.tolist() for name, content in parts.items()}
    classes = checked.columns.names
    rows = [["images", *(len(content["images"]) for content in parts.values())]]
    rows += [[name, *(found.count(c) for found in counts.values())] for c, name in enumerate(classes)]
    print(tabulate(rows, headers=["", *parts]))
    missing = [
        f"{row[0]} is missing from {part}" for row in rows for part, n in zip(parts, row[1:], strict=True) if not n
    ]
    for line in missing:
        print(f"warning: {line}: too few groups hold it", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
