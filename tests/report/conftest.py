"""Reports of one run and of two, made once on drawn data."""

from types import SimpleNamespace

import pytest

from reg_d2.evaluation import fit_calibrator, match_detections
from reg_d2.report import Run, analyse, write_report

from ..models import tiny_config
from .synthetic import CLASSES, detections, make_data

METRICS = """{"iteration": 19, "total_loss": 2.0, "loss_cls": 1.0, "loss_mask": 1.0, "reg/lambda": 0.5, "lr": 0.01}
{"iteration": 39, "total_loss": 9.0, "loss_cls": 8.0, "loss_mask": 1.0, "reg/lambda": 0.6, "lr": 0.01}
{"iteration": 39, "total_loss": 1.5, "loss_cls": 0.5, "loss_mask": NaN, "reg/lambda": 0.6, "lr": 0.01}
{"iteration": 59, "total_loss": 1.0, "loss_cls": 0.4, "reg/box_multiplier/bus stop": 0.1, "reg/box_sigma": 0.2}
{"iteration": 79, "total_lo"""
COUNTS = dict(zip(CLASSES, (100, 50, 40, 20, 10), strict=True))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Folder, ground truth, two analysed runs (the second worse) and the files of the reports of one and of both."""
    folder = tmp_path_factory.mktemp("report")
    truth = make_data(folder)
    (folder / "metrics.json").write_text(METRICS)
    good = match_detections(truth, detections(truth, std=True))
    other = match_detections(truth, detections(truth, seed=3))
    scalers = {
        task: {method: fit_calibrator(matches, method) for method in ("isotonic", "temperature")}
        for task, matches in other.tasks.items()
    }
    config = tiny_config("MODEL.REG.BOX.GAMMA", 2.5)
    first = Run("REG & co", good, "a.pth", config, folder / "metrics.json", scalers)
    worse = Run("peer", match_detections(truth, detections(truth, noise=0.2, missed=0.5, seed=2)), "peer.json")
    options = {"dataset": "drawn_val", "image_root": folder / "images", "train_counts": COUNTS}
    analyse([first, worse], resamples=60, train_counts=COUNTS)
    write_report(folder / "one.html", [first], **options)
    write_report(folder / "two.html", [first, worse], **options)
    return SimpleNamespace(folder=folder, truth=truth, runs=[first, worse], options=options)
