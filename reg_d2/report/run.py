"""What a report shows of one run, and the analysis of several runs that it starts from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detectron2.config import CfgNode

from ..evaluation import Calibrator, Evaluation, bootstrap, calibration, compare, summarize


@dataclass
class Run:
    """One model on the evaluated data set.

    Attributes:
        name: as in the tables; unique among the runs of a report.
        evaluation: of ``match_detections``.
        source: the checkpoint or the result file, for the reader.
        config: of the training; None for another tool's result file.
        metrics_file: Detectron2's ``metrics.json`` of the training; None or absent: no training curves.
        calibrators: task -> method -> scaler that was fitted on another split.
        results: of ``summarize``.
        intervals: of ``bootstrap``; None without it.
        differences: of ``compare`` with the first run; None for that one, or without bootstrap.
        calibrated: task -> method -> ``calibration`` after scaling.
    """

    name: str
    evaluation: Evaluation
    source: str = ""
    config: CfgNode | None = None
    metrics_file: str | os.PathLike | None = None
    calibrators: dict[str, dict[str, Calibrator]] = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    intervals: dict | None = None
    differences: dict | None = None
    calibrated: dict[str, dict[str, dict]] = field(default_factory=dict)

    @property
    def main_task(self) -> str:
        """The task that pictures are chosen by: boxes where there are any."""
        return "bbox" if "bbox" in self.evaluation.tasks else "segm"


def analyse(runs: Sequence[Run], *, resamples: int = 1000, train_counts: Mapping[str, int] | None = None) -> None:
    """Fill in what the runs lack: results, intervals, differences from the first run, calibration after scaling.

    ``resamples`` of the bootstrap, 0: no intervals. ``train_counts``: class name -> objects in training. Raises
    ValueError for two runs of one name, for 1 resample, and for runs on different ground truth.
    """
    names = [run.name for run in runs]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"run names occur more than once: {repeated}; name each run, as in a=file.json b=file.json")
    if resamples < 0 or resamples == 1:
        raise ValueError(f"{resamples} resamples: the bootstrap needs 2 or more; 0 turns it off")
    for run in runs:
        run.results = run.results or summarize(run.evaluation, train_counts=train_counts)
        for task, methods in run.calibrators.items():
            matches = run.evaluation.tasks[task]
            run.calibrated[task] = {m: calibration(matches, scaler) for m, scaler in methods.items()}
        if resamples:
            run.intervals = bootstrap(run.evaluation, resamples=resamples)
            if run is not runs[0]:
                run.differences = compare(runs[0].evaluation, run.evaluation, resamples=resamples)
