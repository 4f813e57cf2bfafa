#!/usr/bin/env python
"""Step time, loss share and memory of every switch of REG, side by side in one run.

python tools/benchmark.py                                            # REG-C (ResNet-50), 4 images of 480 x 360
python tools/benchmark.py --config-file configs/small-REG-R18-FPN.yaml --steps 20 --markdown docs/cost.md
"""

import argparse
import platform
import sys

import torch
from tabulate import tabulate

from reg_d2.engine import readable_errors
from reg_d2.engine.benchmark import measure, table
from reg_d2.engine.cost import peak_memory

READING = (
    "Variants take turns, step by step. *Against REG*: of the steps taken one after the other, median and quartiles; "
    "with quartiles on both sides of 0 the difference is not told from the machine's noise."
)
HEADERS = ["variant", "s / step", "against REG", "losses / step", "MiB"]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="configs/REG-C-R50.yaml")
    parser.add_argument("--batch", type=int, default=4, help="images a step (default: 4)")
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT of the images (default: 480x360)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each variant (default: 5)")
    parser.add_argument("--markdown", help="write the table to this file, too")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys, e.g. SOLVER.AMP.ENABLED True")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        width, height = (int(x) for x in args.size.split("x"))
        rows = measure(args.config_file, args.opts, batch=args.batch, size=(width, height), steps=args.steps)
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        where = (
            f"{args.config_file}, {args.batch} images of {width} x {height}, median of {args.steps} steps, "
            f"{device} ({platform.machine()}), torch {torch.__version__}; peak of the process {peak_memory():.0f} MiB"
        )
        costs = tabulate(table(rows), headers=HEADERS, tablefmt="github", disable_numparse=True)
        text = f"# What each switch costs\n\n{where}.\n\n{READING}\n\n{costs}\n"
        print(text)
        if args.markdown:
            with open(args.markdown, "w") as f:
                f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
