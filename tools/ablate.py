#!/usr/bin/env python
"""Run a study: many configs over many seeds and data sets, compared with intervals. Again: goes on where it stopped.

    python tools/ablate.py configs/studies/components.yaml --jobs 2
    python tools/ablate.py configs/studies/components.yaml --slurm partition=gpu gpus=4 cpus=32 minutes=240
    python tools/ablate.py configs/studies/components.yaml --dry-run | --status | --tables-only
    python tools/ablate.py --page docs/results.md

Results, tables and figures go to docs/results, checkpoints and logs to output/studies.
"""

import argparse
import sys
from pathlib import Path

from reg_d2.ablation.command import StudyCommand
from reg_d2.ablation.execution import KEEP
from reg_d2.ablation.page import update_page
from reg_d2.ablation.slurm_parameters import parse_parameters
from reg_d2.engine import readable_errors
from reg_d2.engine.launch import STOPPED


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", help="YAML file of the study")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the commands of what is to be done")
    what.add_argument("--status", action="store_true", help="show how the study stands")
    what.add_argument(
        "--tables-only", action="store_true", help="write tables and figures from the results that are there"
    )
    what.add_argument("--page", metavar="FILE", help="write anew the tables in a Markdown page, of all its studies")
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--datasets", nargs="+", help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: 1; with --slurm: all)")
    parser.add_argument("--num-gpus", type=int, default=1, help="GPUs of one run; without CUDA, its processes")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="numbers, tables (docs/results)")
    parser.add_argument(
        "--output", type=Path, default=Path("output/studies"), help="checkpoints, logs (output/studies)"
    )
    parser.add_argument("--keep", choices=KEEP, default="final", help="checkpoints that stay (default: final)")
    parser.add_argument("--rerun", nargs="+", default=[], metavar="ROW", help="do these again, from the start")
    parser.add_argument("--rerun-changed", action="store_true", help="do again what was made under another config")
    parser.add_argument(
        "--slurm",
        nargs="+",
        metavar="KEY=VALUE",
        help="submit to SLURM: minutes (of one run), partition, gpus, cpus, memory, qos, ...",
    )
    parser.add_argument("--cluster", default="slurm", help=argparse.SUPPRESS)  # submitit's stand-ins: local, debug
    args = parser.parse_args(argv)
    if (args.study is None) == (args.page is None):
        parser.error("give a study, or --page FILE")
    if args.num_gpus < 1 or (args.jobs is not None and args.jobs < 1):
        parser.error("--jobs and --num-gpus are 1 or more")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:  # while a study is read, or tables are written; runs are stopped elsewhere
        print("stopped", file=sys.stderr)
        return STOPPED


def _run(args: argparse.Namespace) -> int:
    with readable_errors():
        if args.page:
            studies = update_page(Path(args.page), args.results)
            print(f"{args.page}: {', '.join(studies)}")
            return 0
        command = StudyCommand(
            args.study,
            results=args.results,
            output=args.output,
            chosen={"dataset": args.datasets, "row": args.rows, "seed": args.seeds},
        )
        if args.status:
            return command.status()
        if args.tables_only:
            return command.tables()
        what = {
            "workers": args.num_gpus,
            "rerun": args.rerun,
            "rerun_changed": args.rerun_changed,
            "slurm": None if args.slurm is None else parse_parameters(args.slurm),
        }
        if args.dry_run:
            return command.dry_run(**what)
        return command.run(**what, jobs=args.jobs, keep=args.keep, cluster=args.cluster)


if __name__ == "__main__":
    sys.exit(main())
