#!/usr/bin/env python
"""Show what is in data sets: counts and weights per class and task, sizes, places, neighbours, suggested keys.

    python tools/analyze_dataset.py highway_train --output output/analysis
    python tools/analyze_dataset.py mine/train.json:mine/train --output output/analysis

Several data sets are taken together. Writes analysis.html and analysis.json. No picture is opened.
"""

import argparse
import json
import sys
from pathlib import Path

from tabulate import tabulate

from reg_d2.data.analysis import analyse, gather
from reg_d2.data.catalog import resolve
from reg_d2.data.checks import check_file
from reg_d2.engine import readable_errors
from reg_d2.report.data_analysis import page


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "datasets", nargs="+", metavar="DATASET", help="name in the catalogue, or COCO_FILE:IMAGE_FOLDER"
    )
    parser.add_argument("--catalog", default="configs/datasets.yaml", help="default: %(default)s")
    parser.add_argument("--output", required=True, help="folder for analysis.html and analysis.json")
    parser.add_argument("--metric", choices=("center", "edge"), default="center", help="of distances (E4)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn background regions")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        entries = resolve(args.datasets, args.catalog)
        analysis = analyse(gather([check_file(e.json, e.name) for e in entries]), metric=args.metric, seed=args.seed)
        output = Path(args.output)
        output.mkdir(parents=True, exist_ok=True)
        (output / "analysis.json").write_text(json.dumps(analysis, indent=1) + "\n")
        (output / "analysis.html").write_text(page(", ".join(args.datasets), analysis))
    rows = [[name, *values.values()] for name, values in analysis["classes"].items()]
    print(tabulate(rows, headers=["class", "objects", "with mask", "images"]))
    ratios = analysis["imbalance_ratio"]
    print(f"\nimbalance ratio rho: boxes {ratios['box']}, masks {ratios['mask']}")
    for key, value in analysis["suggested"].items():
        print(f"{key}: {value}")
    print(f"\n{output / 'analysis.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
