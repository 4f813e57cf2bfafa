"""A study on a cluster: each run is a job of SLURM, submitted and watched through submitit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Collection
from dataclasses import replace

import submitit

from ..evaluation.results import replace_text
from .execution import FINISHED, Execution, Settings, record_failure
from .locks import RunLock
from .process import TAIL_LINES
from .runner import Runner
from .runs import Run, state_of

JOB_FILE, SUBMIT_LOCK = "job.json", "submit.lock"
# How often the queue is asked for all jobs, and how long it is until a refused job is tried again.
LOOK_SECONDS, RETRY_SECONDS = 30.0, 60.0
# How often, one after another, sbatch may refuse jobs while none of ours is in the queue: for an hour.
MAX_REFUSALS = 60
# How long a job waits for the lock of its run: that of a machine which died is there until its file server notices.
LOCK_SECONDS = 180.0


def jobs_in_queue(jobs: Collection[str]) -> set[str] | None:
    """Of these jobs, those that SLURM's queue has: waiting, running or suspended. None: the cluster does not answer."""
    if not jobs:
        return set()
    command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(jobs)}"]
    # Somebody's own defaults (SQUEUE_STATES, ...) would leave jobs out.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    try:
        queue = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if queue.returncode == 0:
        return set(queue.stdout.split()) & set(jobs)
    return set() if "Invalid job id" in queue.stderr else None


def runs_in_queue(runs: Collection[Run]) -> set[Run]:
    """Of these runs, those whose job SLURM's queue has, as far as it answers."""
    jobs = {run: record["job_id"] for run in runs if (record := _submitted(run))}
    found = jobs_in_queue(jobs.values()) or set()
    return {run for run, job in jobs.items() if job in found}


def _submitted(run: Run) -> dict[str, str]:
    """``job_id`` and folder of ``logs`` of the job that was last submitted to SLURM for a run; {} without."""
    try:
        record = json.loads((run.folder / JOB_FILE).read_text(encoding="utf-8"))
        return {key: str(record[key]) for key in ("job_id", "logs")} if record["cluster"] == "slurm" else {}
    except (OSError, ValueError, KeyError, TypeError):  # none, or a broken file
        return {}


class Job:
    """What a job of the cluster does: one run, as on any machine; requeued, it goes on from its checkpoint."""

    def __init__(self, run: Run, settings: Settings):
        # `jobs` are those of the whole cluster; here a run has what SLURM gave it to itself.
        self._run, self._settings = run, replace(settings, jobs=1)
        self._execution: Execution | None = None

    def __call__(self) -> str:
        end = time.monotonic() + LOCK_SECONDS
        while (execution := Execution.start(self._run, self._settings)) is None:
            state = state_of(self._run)
            if state in FINISHED or time.monotonic() > end:
                return state
            time.sleep(1.0)
        self._execution = execution
        while (outcome := execution.poll()) is None:
            time.sleep(0.5)
        return outcome

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit before the cluster takes the machine away: save the state, and ask to be requeued."""
        if self._execution is not None:
            self._execution.interrupt()
            self._execution.await_end()
        return submitit.helpers.DelayedSubmission(Job(self._run, self._settings))


class SlurmRunner(Runner):
    """Submits what is to be done and watches it. Asked to stop, it leaves the jobs to the cluster.

    A job's result is a file of submitit's. Without one, SLURM's queue says whether a job still goes on, and accounting
    (sacct), which may lag, forget a requeue, or be absent, how it ended.
    """

    poll_seconds = 1.0
    # Network file systems do not show at once what is written elsewhere; and longer than LOCK_SECONDS, lest a run whose
    # machine died is taken for one that goes on.
    late_seconds = 240.0

    def __init__(self, *args, executor: submitit.AutoExecutor, **kwargs):
        """
        Args:
            executor: of ``slurm_parameters.make_executor``.
        """
        super().__init__(*args, **kwargs)
        self.left: list[str] = []  # jobs that were left to the cluster
        self._executor = executor
        self._is_slurm = executor.cluster == "slurm"
        # What an earlier call submitted comes first: it takes no new place in the queue.
        queued = runs_in_queue(self._waiting) if self._is_slurm else set()
        self._waiting.sort(key=lambda run: run not in queued)
        self._accepted = bool(queued)  # whether sbatch has ever taken a job of this study
        self._refusals = 0
        self._next_try = self._next_look = self._next_look_for_sources = 0.0
        self._sources_queued: set[str] | None = None
        self._missed: dict[Run, float] = {}  # since when the queue has not had the job

    def _has_room(self) -> bool:
        return len(self._active) < self.settings.jobs and time.time() >= self._next_try

    def _start(self, run: Run):
        lock = RunLock(run.folder / SUBMIT_LOCK)
        if not lock.acquire():  # another process submits it
            return None
        try:
            return self._adopt_or_submit(run)
        finally:
            lock.release()

    def _adopt_or_submit(self, run: Run):
        job = self._in_queue(run)
        if job is None:
            if state_of(run) == "running":
                return None
            self._executor.update_parameters(name=f"{run.study}-{run.row}-{run.seed}")
            try:
                job = self._executor.submit(Job(run, self.settings))
            except RuntimeError as error:  # submitit's
                return self._refused(run, " ".join(str(error).split()) or "it did not say why")
            content = {"cluster": self._executor.cluster, "job_id": job.job_id, "logs": str(self._executor.folder)}
            replace_text(run.folder / JOB_FILE, json.dumps(content) + "\n")
        self._accepted, self._refusals = True, 0
        self._missed.pop(run, None)
        return job, "queued"

    def _in_queue(self, run: Run) -> submitit.Job | None:
        """The job of an earlier call of this program that still waits or runs."""
        record = _submitted(run)
        if not record or jobs_in_queue([record["job_id"]]) == set():
            return None
        job = submitit.SlurmJob(folder=record["logs"], job_id=record["job_id"])
        # What has ended is about to leave the queue; but where its machine was taken away, it was queued again.
        return job if not job.paths.result_pickle.is_file() or _result(job)[0] == "cut" else None

    def _refused(self, run: Run, reason: str):
        """The queue may be full, or its server away: wait, while there is hope.

        Raises:
            ValueError: sbatch has not taken any job: it will not take the others.
        """
        if self._stop:  # Ctrl-C reached sbatch, too
            return None
        if not self._accepted:
            raise ValueError(f"--slurm: sbatch refuses {run.name}: {reason}") from None
        self._refusals = 0 if self._active else self._refusals + 1
        if self._refusals < MAX_REFUSALS:
            self._next_try = time.time() + RETRY_SECONDS
            return None
        record_failure(run, "sbatch refused its job", reason)
        return None, "failed"

    def _collect_what_ended(self) -> None:
        if self._is_slurm and self._active and time.time() >= self._next_look:
            self._next_look = time.time() + LOOK_SECONDS
            found = jobs_in_queue([job.job_id for job in self._active.values()])
            for run, job in self._active.items():
                if found is None:  # no answer says nothing
                    continue
                if job.job_id in found:
                    self._missed.pop(run, None)
                else:
                    self._missed.setdefault(run, time.time())
        super()._collect_what_ended()

    def _is_queued(self, run: Run) -> bool:
        record = _submitted(run) if self._is_slurm else {}
        if not record:
            return False
        self._seen.setdefault(run, time.time())  # it may have left the queue just before: its files come late
        if time.time() >= self._next_look_for_sources:
            self._next_look_for_sources = time.time() + LOOK_SECONDS
            sources = {waiting.source for waiting in self._waiting if waiting.source is not None}
            self._sources_queued = jobs_in_queue([job["job_id"] for source in sources if (job := _submitted(source))])
        # No answer says nothing.
        return self._sources_queued is None or record["job_id"] in self._sources_queued

    def _poll(self, run: Run, job: submitit.Job) -> str | None:
        # Not at the first look: results come late.
        gone = time.time() > self._missed.get(run, float("inf")) + self.late_seconds
        ended = job.done()  # asked first: it has the file system look again
        if not ended or (self._is_slurm and not job.paths.result_pickle.is_file()):
            return self._without_result(run, job) if gone else None
        outcome, error = _result(job)
        if outcome == "cut" and self._is_slurm and not gone:
            return None  # SLURM took the machine away, and may requeue it
        if outcome is None:
            return self._failed_with(run, f"job {job.job_id} ended with an error", error)
        return outcome if outcome in (*FINISHED, "failed", "running") else "cut"

    def _without_result(self, run: Run, job: submitit.Job) -> str:
        """The outcome of a job that is not in the queue any more, and has left no result: its time or memory was up,
        somebody cancelled it, its machine died."""
        if (state := state_of(run)) in (*FINISHED, "running"):
            return state
        how = "" if job.state in ("UNKNOWN", "PENDING", "RUNNING") else f"; it ended as {job.state}"
        return self._failed_with(run, f"job {job.job_id} is gone without a result{how}", job.stderr() or "")

    def _failed_with(self, run: Run, status: str, text: str) -> str:
        tail = "\n".join(text.splitlines()[-TAIL_LINES:]) or "the same command submits it again"
        record_failure(run, status, tail, run.log if run.log.is_file() else None)
        return "failed"

    def _stop_active(self) -> None:
        self.left = [job.job_id for job in self._active.values()]
        self._active.clear()


def _result(job: submitit.Job) -> tuple[str | None, str]:
    """What an ended job returned, and ""; None and the error, where it ended with one."""
    try:
        return job.result(), ""
    except Exception as error:
        return None, str(error)
