"""How opening images scales with the CPUs: python benchmarks/open_images.py

Photograph-sized JPEGs (smoothed noise) through what tools/check_dataset.py does with each: decode, size, hash.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

from reg_d2.data.checks.images import inspect_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", default="1920x1080", help="WIDTHxHEIGHT in pixels (default: 1920x1080)")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.jpg") for i in range(args.images)]
        rng = np.random.default_rng(0)
        for path in paths:
            noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            cv2.imwrite(str(path), cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
        rows = []
        for workers in sorted({1, 2, len(os.sched_getaffinity(0))}):
            start = time.perf_counter()
            inspect_images(paths, workers)
            seconds = time.perf_counter() - start
            rows.append([workers, f"{seconds:.2f}", f"{len(paths) / seconds:.0f}"])
    print(tabulate(rows, headers=["workers", "seconds", "images / s"], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
