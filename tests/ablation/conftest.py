"""A study on a program that only counts, in a folder of its own."""

import copy
import multiprocessing
import sys
import time
from pathlib import Path

import pytest
import yaml

from reg_d2.ablation import command as command_module
from reg_d2.ablation import page as page_module
from reg_d2.ablation import runner as runner_module
from reg_d2.ablation import runs as runs_module
from reg_d2.ablation.local import LocalRunner
from reg_d2.ablation.runs import all_runs
from reg_d2.ablation.study import load_study

from ..tools.loading import load_tool

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
