#!/usr/bin/env python
"""Make one training set of two annotation sets.

    python tools/merge_datasets.py detection.json segmentation.json --output merged.json

Images are matched by file name. An object that is in both files becomes one, with the first file's box and the
second's mask; the others are kept; different images simply mix. Conflicts are listed in OUT.conflicts.txt.
"""

import argparse
import json
import sys
from pathlib import Path

from reg_d2.data.checks import check_file
from reg_d2.data.merge import LEAST_IOU, merge
from reg_d2.engine import readable_errors

SHOWN_CONFLICTS = 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="COCO file, the detection set")
    parser.add_argument("second", help="COCO file, the segmentation set")
    parser.add_argument("--iou", type=float, default=LEAST_IOU, help="of boxes of one object (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="COCO file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        content, report = merge(check_file(args.first), check_file(args.second), args.iou)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content))
        listed = args.output.with_suffix(".conflicts.txt")
        listed.write_text("".join(f"{line}\n" for line in report.conflicts))
    print(report)
    for line in report.conflicts[:SHOWN_CONFLICTS]:
        print(f"  {line}")
    if len(report.conflicts) > SHOWN_CONFLICTS:
        print(f"  all in {listed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
