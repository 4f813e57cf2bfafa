"""A study on a program that only counts, in a folder of its own."""

import copy
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest
import submitit
import yaml

from reg_d2.ablation import command as command_module
from reg_d2.ablation import page as page_module
from reg_d2.ablation import runner as runner_module
from reg_d2.ablation import runs as runs_module
from reg_d2.ablation import slurm
from reg_d2.ablation.local import LocalRunner
from reg_d2.ablation.results import config_hash
from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.slurm import SlurmRunner
from reg_d2.ablation.study import load_study

from ..tools.loading import load_tool
from .submitted import LATE, SubmittedStudy

FAKE = Path(__file__).with_name("fake_train.py")
CONTENT = {
    "base": "configs/small-REG-R18-FPN.yaml",
    "program": str(FAKE),
    "base_row": "plain",
    "seeds": [0, 1],
    "set": {"SOLVER": {"MAX_ITER": 25, "WARMUP_ITERS": 2}},
    "datasets": {"roads": {}},
    "rows": {
        "plain": {"set": {"SOLVER.BASE_LR": 0.2}},
        "better": {"from": "plain", "set": {"SOLVER.BASE_LR": 0.3}},
    },
}


AP = {"plain": {0: 30.0, 1: 31.0, 2: 32.0}, "better": {0: 33.0, 1: 33.9, 2: 35.1}, "best": {0: 35.0, 1: 36.5, 2: 37.0}}


class Workshop:
    """A study file, its folders, and the tool on them."""

    def __init__(self, folder: Path):
        self.file, self.results, self.output = folder / "trial.yaml", folder / "results", folder / "output"
        self.data = {"roads_train": "0123456789ab"}  # what is there, with its fingerprints
        self.content = copy.deepcopy(CONTENT)
        self._known = "", {}
        self.write()

    def write(self, **changes):
        self.content |= changes
        self.file.write_text(yaml.safe_dump(self.content, sort_keys=False))

    def arguments(self, *extra):
        return [str(self.file), "--results", str(self.results), "--output", str(self.output), *map(str, extra)]

    def main(self, *extra) -> int:
        return load_tool("ablate").main(self.arguments(*extra))

    def fork(self, *extra):
        """The tool in a process of its own: a fork, which has imported everything."""
        tool = load_tool("ablate")

        def run():
            with open(self.file.with_suffix(".out"), "a") as sys.stdout:
                status = tool.main(self.arguments(*extra))
            sys.exit(status)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        return process

    def runs(self):
        text = self.file.read_text()
        if self._known[0] != text:
            found = all_runs(load_study(self.file), self.output, self.results)
            self._known = text, {f"{r.row}{r.seed}": r for r in found}
        return self._known[1]

    def steps(self, name) -> list[tuple[int, int]]:
        """(process, step) of what the program did for a run, in order."""
        path = self.runs()[name].folder / "steps.txt"
        return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "to_svg", lambda comparison: "<svg>")  # slow, and tested where it is
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setattr(LocalRunner, "poll_seconds", 0.02)
    monkeypatch.setattr(runner_module, "ELSEWHERE_SECONDS", 0.1)
    monkeypatch.setattr(command_module, "ELSEWHERE_SECONDS", 0.1)
    workshop = Workshop(tmp_path)
    monkeypatch.setattr(runs_module, "fingerprints", lambda files: dict(workshop.data))
    return workshop


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Commands of SLURM that say what a test wants: ``cluster(sbatch="echo ...")``."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def programs(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    programs(srun="", sacct="echo 'JobID|State|NodeList'", squeue="")
    return programs


@pytest.fixture
def study(workshop, cluster, monkeypatch):
    """Of two runs, whose jobs are what a test says; everything that waits is quick."""
    monkeypatch.setattr(SlurmRunner, "poll_seconds", 0.02)
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(SlurmRunner, "late_seconds", LATE)
    monkeypatch.setattr(runner_module, "ELSEWHERE_SECONDS", 0.0)
    # One for all jobs, of all tests.
    submitit.SlurmJob.watcher.clear()
    submitit.SlurmJob.watcher._registered.clear()
    return SubmittedStudy(workshop)


@pytest.fixture
def filled(workshop):
    """Three rows with three seeds each, without any training; masks are 5 points below boxes."""
    workshop.content["rows"]["best"] = {"from": "better", "label": "the best", "set": {"SOLVER.BASE_LR": 0.4}}
    workshop.write(seeds=[0, 1, 2], description="What helps.")
    for run in workshop.runs().values():
        store(run, AP[run.row][run.seed])
    return workshop


def store(run, ap, **changes):
    """Write a run's result file as a training would, with a box AP of ``ap``; masks are 5 points below."""

    def task(ap):
        tasks = {"AP": ap, "AP50": 2 * ap, "precision": 60.0, "recall": 50.0, "f1": 54.5, "AP_head": ap + 5}
        return tasks | {"AP_middle": ap, "AP_tail": ap - 5, "AP_rarest": ap - 6, "per_class": {}}

    content = {"study": run.study, "dataset": run.dataset, "row": run.row, "seed": run.seed}
    content |= {"metrics": {"bbox": task(ap), "segm": task(ap - 5), "segm_boxes": task(ap)}}
    content |= {"cost": {"step_time": 0.25, "peak_memory": 900.0, "seconds": 200.0}, "versions": {"torch": "2.0"}}
    content |= {"hardware": {"device": "an abacus", "side_by_side": 3}, "data": {"roads_train": "0123456789ab"}}
    content |= {"config": run.config, "config_hash": config_hash(run.config), **changes}
    run.result.parent.mkdir(parents=True, exist_ok=True)
    run.result.write_text(json.dumps(content))
