"""A short run on real pictures, where they are at hand: beside the checkout, or under $REG_D2_DATASETS."""

import json
import os
import subprocess
import sys

import pytest

from reg_d2.data.catalog import REPOSITORY

ROOTS = [os.environ.get("REG_D2_DATASETS", ""), str(REPOSITORY.parent / "shared" / "data")]
ROOT = next((root for root in ROOTS if root and os.path.isdir(os.path.join(root, "track_signs"))), None)


@pytest.mark.skipif(ROOT is None, reason="track_signs is neither under $REG_D2_DATASETS nor in ../shared/data")
def test_track_signs_trains_and_evaluates(tmp_path):
    options = {"OUTPUT_DIR": tmp_path, "SOLVER.MAX_ITER": 60, "SOLVER.STEPS": "(50,)", "SOLVER.WARMUP_ITERS": 20}
    options |= {"INPUT.MIN_SIZE_TRAIN": "(128,)", "INPUT.MIN_SIZE_TEST": 128, "TEST.REPORT": False}
    done = subprocess.run(
        [
            *(sys.executable, "tools/train_net.py", "--config-file", "configs/real/track_signs.yaml"),
            *(str(x) for pair in options.items() for x in pair),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "REG_D2_DATASETS": ROOT},
    )
    assert done.returncode == 0, done.stderr
    losses = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    losses = [row["total_loss"] for row in losses if "total_loss" in row]
    assert losses[-1] < 0.75 * losses[0]
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["bbox"]["per_class"]) == 12
    box_only = {"level_crossing_sign", "traffic_light"}
    assert set(results["bbox"]["per_class"]) - set(results["segm"]["per_class"]) == box_only
    assert results["bbox"]["num_gt"] == 290
