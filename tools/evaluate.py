#!/usr/bin/env python
"""Evaluate checkpoints, or COCO result files of any tool, on a data set of the catalogue: results.json, report.html.

    python tools/evaluate.py --dataset highway_val --weights output/a/model_final.pth --output output/a/report
    python tools/evaluate.py --dataset highway_val --results reg=a.json peer=b.json --output output/compare

Several runs are compared; differences are to the first. Each can be named, as in NAME=FILE.
"""

import argparse
import os
import sys
from pathlib import Path

from reg_d2.data.catalog import CatalogEntry, find_entries, read_catalog, training_classes
from reg_d2.engine import load_config, readable_errors
from reg_d2.engine.evaluate import predict_checkpoint, training_counts
from reg_d2.engine.setup import get_classes
from reg_d2.evaluation import (
    check_results,
    fit_calibrator,
    load_ground_truth,
    match_detections,
    paper_tables,
    save_results,
)
from reg_d2.evaluation.calibration import METHODS as CALIBRATION_METHODS
from reg_d2.report import Run, analyse, write_report


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="name in the catalogue")
    parser.add_argument("--weights", nargs="+", default=[], metavar="[NAME=]FILE", help="checkpoints (.pth)")
    parser.add_argument("--config-file", help="of the checkpoints; default: config.yaml beside each")
    parser.add_argument("--results", nargs="+", default=[], metavar="[NAME=]FILE", help="COCO result files (.json)")
    parser.add_argument("--output", required=True, help="folder for results.json and report.html")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000; 0: none)")
    parser.add_argument("--calibration-dataset", help="another split, to fit score calibrators on")
    parser.add_argument(
        "--calibration-results",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help="result files on that split, in the order of --results",
    )
    parser.add_argument("--train-dataset", nargs="+", help="for training counts; default: those of the checkpoint")
    parser.add_argument("--catalog", default="configs/datasets.yaml", help="the catalogue (configs/datasets.yaml)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys, e.g. MODEL.DEVICE cpu; at the end")
    return parser.parse_args(argv)


def named(given: str) -> tuple[str, str]:
    """NAME=FILE; without a name the file's own, or for Detectron2's fixed file names the folder's."""
    name, _, path = given.rpartition("=")
    path = Path(path)
    if not name:
        common = path.stem.startswith(("model_", "coco_instances_results", "results", "predictions"))
        name = path.resolve().parent.name if common else path.stem
    return name, str(path)


def load_runs(args: argparse.Namespace, entry: CatalogEntry, other: CatalogEntry | None) -> list[dict]:
    """Of each run: ``name``, ``source``, ``detections``, ``calibration`` (on the other split, or None), ``config``."""
    if not args.weights and not args.results:
        raise ValueError("nothing to evaluate: give --weights, --results, or both")
    if args.calibration_results and (other is None or len(args.calibration_results) != len(args.results)):
        raise ValueError("--calibration-results needs --calibration-dataset, and one file for each of --results")
    runs = []
    for name, path in map(named, args.weights):
        folder = os.path.dirname(path)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"--weights {path} does not exist")
        options = ["MODEL.WEIGHTS", path, "DATASETS.CATALOG", args.catalog, *args.opts]
        cfg = load_config(args.config_file or os.path.join(folder, "config.yaml"), options)
        entries = [e for e in (entry, other) if e is not None]
        files = predict_checkpoint(cfg, [e.name for e in entries], Path(args.output) / "inference" / name)
        calibration = files[other.name] if other else None
        run = {"name": name, "source": path, "detections": files[entry.name], "calibration": calibration}
        runs.append({**run, "config": cfg, "metrics_file": os.path.join(folder, "metrics.json")})
    calibration = [named(c)[1] for c in args.calibration_results] or [None] * len(args.results)
    for (name, path), fitted_on in zip(map(named, args.results), calibration, strict=True):
        runs.append({"name": name, "source": path, "detections": path, "calibration": fitted_on})
    return runs


def measure(given: dict, entry: CatalogEntry, other: CatalogEntry | None, mask_classes: list[str] | None) -> Run:
    """Match a run's detections, and fit its calibrators on the other split."""
    truth = load_ground_truth(entry.json)
    detections = check_results(given["detections"], truth)
    has_masks = any(d.get("segmentation") is not None for d in detections) and mask_classes != []
    options = {"tasks": ("bbox", "segm") if has_masks else ("bbox",), "mask_classes": mask_classes}
    run = Run(
        given["name"],
        match_detections(truth, detections, **options),
        source=given["source"],
        config=given.get("config"),
        metrics_file=given.get("metrics_file"),
    )
    if given["calibration"] is not None:
        fitted_on = match_detections(other.json, given["calibration"], **options)
        run.calibrators = {
            t: {m: fit_calibrator(x, m) for m in CALIBRATION_METHODS} for t, x in fitted_on.tasks.items()
        }
    return run


def results_of(runs: list[Run], dataset: str) -> dict:
    """The content of results.json."""
    return {
        "dataset": dataset,
        "runs": {run.name: run.results for run in runs},
        "intervals": {run.name: run.intervals for run in runs if run.intervals},
        "calibrated": {run.name: run.calibrated for run in runs if run.calibrated},
        "differences": {f"{r.name} - {runs[0].name}": r.differences for r in runs if r.differences},
    }


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    with readable_errors():
        catalog = read_catalog(args.catalog)
        (entry,) = find_entries(catalog, [args.dataset])
        other = find_entries(catalog, [args.calibration_dataset])[0] if args.calibration_dataset else None
        train = training_classes(find_entries(catalog, args.train_dataset)) if args.train_dataset else None
        given = load_runs(args, entry, other)
        config = next((g["config"] for g in given if "config" in g), None)
        counts, mask_classes = None, None
        if train is not None:
            counts, mask_classes = dict(zip(train.names, train.box_counts, strict=True)), list(train.mask_classes)
        elif config is not None:
            counts, mask_classes = training_counts(config), list(get_classes(config).mask_classes)
        runs = [measure(g, entry, other, mask_classes) for g in given]
        analyse(runs, resamples=args.bootstrap, train_counts=counts)
        output = Path(args.output)
        save_results(output / "results.json", results_of(runs, args.dataset))
        for run in runs:
            for task, methods in run.calibrators.items():
                for method, calibrator in methods.items():
                    calibrator.to_json(output / "calibrators" / f"{run.name}_{task}_{method}.json")
        write_report(output / "report.html", runs, dataset=args.dataset, image_root=entry.images, train_counts=counts)
    print(paper_tables({run.name: run.results for run in runs}))
    print(f"\n{output / 'results.json'}\n{output / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
