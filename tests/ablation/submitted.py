"""Runs whose jobs are in SLURM's queue, as a test wants it."""

import json
import pickle

from reg_d2.ablation.execution import Settings
from reg_d2.ablation.process import StopRequest
from reg_d2.ablation.slurm import SlurmRunner
from reg_d2.ablation.slurm_parameters import make_executor

# For so long the files of a job may come late.
LATE = 0.6


class SubmittedStudy:
    """Runs whose jobs were submitted by an earlier call, and a runner that watches them."""

    def __init__(self, workshop):
        self.logs = workshop.output / "logs"
        self.read(workshop)
        self.stop, self.seen = StopRequest(), []
        self.tick = lambda: None

    def read(self, workshop):
        workshop.write(seeds=[0])
        self.runs = list(workshop.runs().values())

    def submitted(self, *runs):
        for run in runs:
            run.folder.mkdir(parents=True, exist_ok=True)
            content = {"cluster": "slurm", "job_id": str(70 + self.runs.index(run)), "logs": str(self.logs)}
            (run.folder / "job.json").write_text(json.dumps(content))

    def ends(self, run, result):
        """Its job leaves a result, as submitit writes it."""
        folder = self.logs / str(70 + self.runs.index(run))
        folder.mkdir(parents=True, exist_ok=True)
        (self.logs / f"{folder.name}_0_result.pkl").write_bytes(pickle.dumps(result))

    def runner(self, runs=None, jobs=5):
        executor = make_executor({"timeout_min": 9}, workers=1, logs=self.logs)
        return SlurmRunner(
            self.runs if runs is None else runs,
            Settings(jobs=jobs),
            self.stop,
            lambda run, state: self.seen.append((run.row, state)),
            lambda: self.tick(),
            executor=executor,
        )

    def watching(self, run):
        """A runner that has adopted the job of one run, which the queue has."""
        self.submitted(run)
        runner = self.runner([run])
        runner._start_what_can_be()
        return runner
