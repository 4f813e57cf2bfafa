"""One run in progress: locked, started, watched, recorded. On this machine and inside a cluster's job alike."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.launch import STOPPED
from ..evaluation.results import replace_text
from .locks import RunLock, is_locked
from .options import reference_workers
from .process import Child, environment
from .results import collect, made_with, store
from .runs import BEGUN_FILE, FAILURE_FILE, Run, begun_with, state_of
from .study import StudyError

KEEP = ("none", "final", "all")
# With those that a killed run was writing.
CHECKPOINTS = "*.pth*"
RESULTS = "results.json"
# There is a result: nothing to run.
FINISHED = ("done", "changed")
# The exit status of a program that was asked to stop and has saved its state; or it was killed by the signal, before it
# could handle it.
ASKED_TO_STOP = (STOPPED, -signal.SIGINT, -signal.SIGTERM)
_IN_PROGRESS = "{} is in progress: wait for its end, or stop it (Ctrl-C, scancel), before it is done again"


@dataclass(frozen=True)
class Settings:
    """How runs are executed; nothing here decides their numbers.

    Attributes:
        workers: GPUs of one run, or its processes on CPUs.
        jobs: runs side by side on one machine.
        keep: checkpoints that stay after a run: the ``final`` one, ``all``, or ``none``.
        sources: rows whose checkpoints other rows evaluate; these stay in any case.
    """

    workers: int = 1
    jobs: int = 1
    keep: str = "final"
    sources: Collection[str] = ()


class Execution:
    """A run whose lock this process holds, and its program."""

    def __init__(self, run: Run, settings: Settings, data: Mapping[str, str], lock: RunLock, child: Child):
        self.run, self.started = run, time.time()
        self._data, self._settings, self._lock, self._child = data, settings, lock, child
        self._interrupted = False

    @classmethod
    def start(
        cls, run: Run, settings: Settings, *, threads: int | None = None, gpus: Sequence[str] | None = None
    ) -> Execution | None:
        """Start a run; None where another process has it, or has finished it meanwhile.

        Args:
            threads, gpus: as of ``process.environment``.
        """
        lock = RunLock(run.lock)
        if not lock.acquire():
            return None
        # Ours now: had another process finished it before, its result would be there.
        if state_of(run) in FINISHED:
            lock.release()
            return None
        (run.folder / FAILURE_FILE).unlink(missing_ok=True)
        try:
            data = run.data
            begin(run, data, settings.workers)
            command = run.command(settings.workers)
            child = Child(command, run.log, environment(threads, gpus), keep_open=[lock.fd])
        except BaseException:
            lock.release()
            raise
        return cls(run, settings, data, lock, child)

    def interrupt(self) -> None:
        """Have it save its state and stop; a second call kills it."""
        if self._interrupted:
            self._child.kill()
        self._interrupted = True
        self._child.interrupt()

    def poll(self) -> str | None:
        """None while it runs; then "done", "failed", or "cut", recorded and unlocked."""
        status = self._child.poll()
        return None if status is None else self._finish(status)

    def await_end(self) -> None:
        """Return when the program has ended; ``poll`` then says how. Safe inside a signal handler."""
        self._child.await_end()

    def _finish(self, status: int) -> str:
        try:
            if status == 0 and not (self._interrupted and self._unfinished()):
                return self._record()
            # Not always by us: a cluster that wants the machine back may tell the program itself.
            if self._interrupted or status in ASKED_TO_STOP:
                return "cut"
            return self._fail(f"exit status {status}")
        finally:
            self._lock.release()

    def _unfinished(self) -> bool:
        """Whether a program that was asked to stop and ended well left its work undone: it did not say so."""
        ends_with = self.run.weights if self.run.source is None else self.run.folder / RESULTS
        return not ends_with.is_file()

    def _record(self) -> str:
        try:
            result = collect(self.run, side_by_side=self._settings.jobs, data=self._data)
        except (OSError, ValueError) as error:
            return self._fail(f"its results cannot be read: {error}")
        try:
            store(self.run.result, result)
        except (OSError, ValueError) as error:  # ValueError: a number that is none
            return self._fail(f"its numbers cannot be written: {error}")
        self._tidy()
        return "done"

    def _fail(self, status: str) -> str:
        record_failure(self.run, status, self._child.tail(), self.run.log)
        return "failed"

    def _tidy(self) -> None:
        """Delete checkpoints: many runs would fill a disk with them."""
        keep_final = self._settings.keep == "final" or self.run.row in self._settings.sources
        if self._settings.keep == "all" or (keep_final and not self.run.weights.is_file()):
            return
        for path in _checkpoints(self.run):
            if not (keep_final and path == self.run.weights):
                path.unlink()
        if not keep_final:
            (self.run.folder / "last_checkpoint").unlink(missing_ok=True)


def begin(run: Run, data: Mapping[str, str], workers: int) -> None:
    """Write into a run's folder what it is begun with; what was begun there otherwise is deleted first.

    So are numbers that an earlier try left: a program that ends well without writing any has none.
    """
    if begun_otherwise(run, data, workers):
        _delete_state(run)
    (run.folder / RESULTS).unlink(missing_ok=True)
    content = {"data": dict(data), "workers": workers, **made_with(run)}
    replace_text(run.folder / BEGUN_FILE, json.dumps(content, indent=2) + "\n")


def begun_otherwise(run: Run, data: Mapping[str, str], workers: int) -> bool:
    """Whether a run's folder holds what was begun with other data, or, where its config is scaled, other workers."""
    begun = begun_with(run.folder)
    then = begun.get("data", {})
    other_data = any(then.get(name, now) != now for name, now in data.items())
    return other_data or (reference_workers(run.config) > 0 and begun.get("workers", workers) != workers)


def record_failure(run: Run, status: str, tail: str, log: Path | None = None) -> None:
    """Write into a run's folder why it failed, with the last lines of the log and, where there is one, its path."""
    content = {"status": status, "tail": tail, "time": time.time(), "log": None if log is None else str(log)}
    replace_text(run.folder / FAILURE_FILE, json.dumps(content, indent=2) + "\n")


def forget(runs: Sequence[Run]) -> None:
    """Delete results and checkpoints, so that the runs are done again from their start.

    Raises:
        StudyError: one of them is in progress; nothing is deleted then.
    """
    if running := [run.name for run in runs if is_locked(run.lock)]:
        raise StudyError(_IN_PROGRESS.format(", ".join(running)))
    for run in runs:
        lock = RunLock(run.lock)
        if run.folder.is_dir() and not lock.acquire():
            raise StudyError(_IN_PROGRESS.format(run.name))
        try:
            run.result.unlink(missing_ok=True)
            _delete_state(run)
        finally:
            lock.release()


def _delete_state(run: Run) -> None:
    """Checkpoints, what tells how far a training is, and its numbers; logs stay."""
    files = ("last_checkpoint", "metrics.json", RESULTS, "cost.json")
    for path in [*_checkpoints(run), *(run.folder / name for name in files)]:
        path.unlink(missing_ok=True)


def _checkpoints(run: Run) -> list[Path]:
    return [path for path in run.folder.glob(CHECKPOINTS) if path.is_file()]
