"""Make the highway set: COCO files and JPEG pictures (see `reg_d2.data.highway` for what is in it).

python tools/make_highway.py --output datasets/highway
python tools/make_highway.py --output /tmp/small --scale 0.2 --train-images 300 --val-images 100 --size 480x270
"""

from __future__ import annotations

import argparse
import sys
import time

from reg_d2.data.highway import HIGHWAY_CLASSES, make_highway


def parse_size(text: str) -> tuple[int, int]:
    """'640x360' -> (640, 360)."""
    try:
        width, height = (int(n) for n in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected WIDTHxHEIGHT, such as 640x360") from None
    return width, height


def parse_args(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--train-images", type=int, default=1000, help="pictures in the training split")
    parser.add_argument("--val-images", type=int, default=200, help="pictures in the validation split")
    parser.add_argument("--size", type=parse_size, default="640x360", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("--scale", type=float, default=1.0, help="times the paper's 3650 boxes and 1200 masks")
    parser.add_argument("--difficulty", type=float, default=1.0, help="0..1; 1: the benchmark, less: for demos")
    parser.add_argument("--val-floor", type=int, default=40, help="least objects of a class in the validation split")
    parser.add_argument("--empty-share", type=float, default=0.03, help="part of the pictures without objects")
    parser.add_argument("--seed", type=int, default=0, help="decides every pixel")
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1..100")
    parser.add_argument("--workers", type=int, default=None, help="processes; None: all CPUs of this process")
    parser.add_argument("--overwrite", action="store_true", help="replace a set made with other parameters")
    return parser, parser.parse_args(argv)


def table(report: dict) -> str:
    """Boxes and masks per class and split, totals, and the imbalance ratio rho (E11)."""
    splits = ("train", "val")
    lines = [f"{'class':<20}" + "".join(f"{s + ' boxes':>13}{s + ' masks':>13}" for s in splits)]
    rows = [
        (name, [(report[s]["counts"][name], report[s]["mask_counts"][name]) for s in splits])
        for name in HIGHWAY_CLASSES
    ]
    rows.append(("total", [tuple(sum(row[1][i][k] for row in rows) for k in (0, 1)) for i in (0, 1)]))
    lines += [f"{name:<20}" + "".join(f"{boxes:>13}{masks:>13}" for boxes, masks in cells) for name, cells in rows]
    lines.append(f"{'images':<20}" + "".join(f"{report[s]['num_images']:>13}{'':>13}" for s in splits))
    lines.append(f"{'rho = max / min':<20}" + "".join(f"{report[s]['imbalance_ratio']:>13.2f}{'':>13}" for s in splits))
    return "\n".join(line.rstrip() for line in lines)


def main(argv: list[str] | None = None) -> int:
    parser, args = parse_args(argv)
    start = time.perf_counter()
    try:
        report = make_highway(
            args.output,
            train_images=args.train_images,
            val_images=args.val_images,
            size=args.size,
            scale=args.scale,
            difficulty=args.difficulty,
            val_floor=args.val_floor,
            empty_share=args.empty_share,
            seed=args.seed,
            workers=args.workers,
            quality=args.quality,
            overwrite=args.overwrite,
            progress=sys.stderr.isatty(),
        )
    except (ValueError, OSError) as error:
        hint = " (--overwrite)" if isinstance(error, FileExistsError) else ""
        parser.error(f"{error}{hint}")
    except RuntimeError as error:  # a picture for which no arrangement was found
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; {args.output} is not complete, run the same command again", file=sys.stderr)
        return 130
    print(table(report))
    did = f"made in {time.perf_counter() - start:.0f} s" if report["created"] else "already there, nothing to do"
    print(f"{args.output}: {did}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
