"""A study on a cluster: each run is a job of SLURM, submitted and watched through submitit."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import submitit

from ..evaluation.results import replace_text
from .execution import Execution, Settings, record_failure
from .process import TAIL_LINES
from .runner import Runner
from .runs import Run, state_of

JOB_FILE = "job.json"
# What --slurm calls submitit's parameters that are the same on every cluster.
COMMON = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "minutes": "timeout_min", "memory": "mem_gb"}
# sbatch's other ways to ask for GPUs, which would leave the number of a run's processes open.
OTHER_GPUS = ("gres", "gpus_per_task", "num_gpus")
# How often the queue is asked for a job that accounting does not know, and how long a new one has to appear.
LOST_SECONDS = 60.0


def parse_parameters(given: Sequence[str]) -> dict[str, str | int]:
    """``["partition=gpu", "gpus=4"]`` as submitit's parameters; names that are not of COMMON are sbatch's own.

    Raises:
        ValueError: not KEY=VALUE, no number where one is needed, GPUs by another name, no time limit.
    """
    parameters: dict[str, str | int] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--slurm {text!r}: expected KEY=VALUE; keys: {', '.join(COMMON)}, partition, qos, ...")
        key = key.removeprefix("slurm_")
        if key in OTHER_GPUS:
            raise ValueError(f"--slurm {text!r}: ask for GPUs by gpus=N, since a run has a process for each")
        name = COMMON.get(key, key if key in COMMON.values() else f"slurm_{key}")
        if name in COMMON.values() and not value.isdigit():
            kind = "; a kind of GPU is chosen by partition=NAME or constraint=NAME" if key.startswith("gpus") else ""
            raise ValueError(f"--slurm {text!r}: expected a whole number, as in {key}=4{kind}")
        parameters[name] = int(value) if value.isdigit() else value
    if not {"timeout_min", "slurm_time"} & set(parameters):
        raise ValueError("--slurm: no minutes=N, the time limit of one run; submitit's own are 5 minutes")
    return parameters


def workers_of(parameters: Mapping[str, str | int] | None, workers: int) -> int:
    """Processes of a run: as many as the GPUs that are asked for, or else ``workers``."""
    return int((parameters or {}).get("gpus_per_node", 0)) or workers


def is_lost(job: submitit.Job) -> bool:
    """Whether a job that has not ended is gone: accounting (sacct) does not know it, and the queue has it not."""
    if job.state != "UNKNOWN":
        return False
    command = ["squeue", "--noheader", "--format=%i", "--jobs", str(job.job_id)]
    try:
        queue = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False  # the cluster does not answer
    return not queue.stdout.strip() if queue.returncode == 0 else "Invalid job id" in queue.stderr


class Job:
    """What a job of the cluster does: one run, as on any machine; requeued, it goes on from its checkpoint."""

    def __init__(self, run: Run, settings: Settings):
        # `jobs` are those of the whole cluster; here a run has what SLURM gave it to itself.
        self._run, self._settings = run, replace(settings, jobs=1)
        self._execution: Execution | None = None

    def __call__(self) -> str:
        self._execution = Execution.start(self._run, self._settings)
        if self._execution is None:
            return state_of(self._run)
        while (outcome := self._execution.poll()) is None:
            time.sleep(0.5)
        return outcome

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit before the cluster takes the machine away: save the state, and ask to be requeued."""
        if self._execution is not None:
            self._execution.interrupt()
            self._execution.await_end()
        return submitit.helpers.DelayedSubmission(Job(self._run, self._settings))


class SlurmRunner(Runner):
    """Submits what is to be done and watches it. Asked to stop, it leaves the jobs to the cluster."""

    poll_seconds = 1.0

    def __init__(self, *args, parameters: Mapping[str, str | int], logs: Path, cluster: str = "slurm", **kwargs):
        """
        Args:
            parameters: of ``parse_parameters``; without GPUs in it, one for each of ``settings.workers``.
            logs: folder for submitit's files.
            cluster: ``slurm``; ``local`` and ``debug`` are submitit's stand-ins.

        Raises:
            ValueError: no cluster here, or a parameter that submitit does not know.
        """
        super().__init__(*args, **kwargs)
        self.left: list[str] = []  # jobs that were left to the cluster
        self._cluster = cluster
        self._next_look: dict[Run, float] = {}
        try:
            self._executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
            self._executor.update_parameters(
                **{"gpus_per_node": self.settings.workers, "tasks_per_node": 1, **parameters}
            )
        except (NameError, RuntimeError) as error:
            raise ValueError(f"--slurm: {error}") from None

    def _has_room(self) -> bool:
        return len(self._active) < self.settings.jobs

    def _start(self, run: Run):
        job = self._submitted_before(run)
        if job is None:
            if state_of(run) == "running":
                return None
            self._executor.update_parameters(name=f"{run.study}-{run.row}-{run.seed}")
            try:
                job = self._executor.submit(Job(run, self.settings))
            except submitit.core.utils.FailedJobError as error:
                reason = " ".join(str(error).split()) or "it did not say why"
                if not self._active:
                    raise ValueError(f"--slurm: sbatch refuses {run.name}: {reason}") from None
                record_failure(run, "sbatch refused its job", reason)
                return None, "failed"
            content = {"cluster": self._cluster, "job_id": job.job_id, "logs": str(self._executor.folder)}
            replace_text(run.folder / JOB_FILE, json.dumps(content) + "\n")
        self._next_look[run] = time.time() + LOST_SECONDS
        return job, "queued"

    def _submitted_before(self, run: Run) -> submitit.Job | None:
        """The job of an earlier call of this program that still waits or runs."""
        try:
            content = json.loads((run.folder / JOB_FILE).read_text(encoding="utf-8"))
            if content["cluster"] != "slurm":
                return None
            job = submitit.SlurmJob(folder=content["logs"], job_id=content["job_id"])
        except (OSError, ValueError, KeyError, TypeError):  # none, or a broken file
            return None
        return None if job.done(force_check=True) or is_lost(job) else job

    def _poll(self, run: Run, job: submitit.Job) -> str | None:
        if not job.done():
            return self._poll_lost(run, job)
        try:
            outcome = job.result()
            return outcome if outcome in ("done", "failed") else "cut"
        except Exception as error:  # whatever ended the job: time, memory, scancel, a broken node
            tail = "\n".join(str(error).splitlines()[-TAIL_LINES:])
            record_failure(run, f"job {job.job_id} ended as {job.state}", tail, run.log if run.log.is_file() else None)
            return "failed"

    def _poll_lost(self, run: Run, job: submitit.Job) -> str | None:
        """As ``_poll``, of a job that has not ended as far as submitit knows."""
        if time.time() < self._next_look.get(run, 0):
            return None
        self._next_look[run] = time.time() + LOST_SECONDS
        if not is_lost(job) or (state := state_of(run)) == "running":
            return None
        if state == "done":
            return state
        record_failure(run, f"the cluster does not know job {job.job_id} any more", "the same command submits it again")
        return "failed"

    def _stop_active(self) -> None:
        self.left = [job.job_id for job in self._active.values()]
        self._active.clear()
