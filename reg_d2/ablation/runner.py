"""What running a study on one machine and on a cluster have in common: order, sources, failures, stopping."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .execution import FINISHED, Settings, record_failure
from .process import StopRequest
from .runs import Run, failure_of, state_of

# How often a run that another process has is looked at again.
ELSEWHERE_SECONDS = 5.0


class Runner(ABC):
    """Does runs, so many at a time, until all are done or somebody stops it."""

    poll_seconds: float
    # How long the files of a run that has ended may take to be seen here.
    late_seconds = 0.0

    def __init__(
        self,
        runs: Sequence[Run],
        settings: Settings,
        stop: StopRequest,
        changed: Callable[[Run, str], None] = lambda run, state: None,
        tick: Callable[[], None] = lambda: None,
    ):
        """
        Args:
            runs: those to be done, in order; a run whose source is not among them needs its checkpoint.
            stop: counts the requests to stop.
            changed: called with a run and its new state.
            tick: called every moment, to draw progress.
        """
        self.settings, self._stop, self._changed, self._tick = settings, stop, changed, tick
        self._waiting = list(runs)
        self._active: dict[Run, Any] = {}
        self._elsewhere: dict[Run, float] = {}
        self._seen: dict[Run, float] = {}  # when others were last seen to have a source of ours
        self._failed: set[Run] = set()
        self._ended: dict[Run, float] = {}  # those that were done here, and when
        self._begun = time.time()

    def run(self) -> bool:
        """Do it all; whether every run was done, by this process or another, or was left to the cluster."""
        seen = 0
        while self._active or ((self._waiting or self._numbers_are_late()) and not self._stop):
            if seen < self._stop.count:
                seen = self._stop.count
                self._stop_active()
            if not self._stop:
                self._start_what_can_be()
            self._collect_what_ended()
            self._tick()
            time.sleep(self.poll_seconds)
        return not (self._waiting or self._failed)

    @abstractmethod
    def _has_room(self) -> bool:
        """Whether one more run can be started."""

    @abstractmethod
    def _start(self, run: Run) -> tuple[Any, str] | None:
        """Start a run: a handle and its state now ("failed": it is not started); None where another process has it."""

    @abstractmethod
    def _poll(self, run: Run, handle: Any) -> str | None:
        """None while a run goes on; else "done", "failed", "cut", or "running": another process has it."""

    @abstractmethod
    def _stop_active(self) -> None:
        """Somebody asked to stop, or asked again."""

    def _start_what_can_be(self) -> None:
        for run in list(self._waiting):
            if self._stop or not self._has_room():
                return
            if self._elsewhere.get(run, 0) > time.time() or not self._source_is_ready(run):
                continue
            if (state := state_of(run)) in FINISHED:
                self._drop(run, state)
            elif self._failed_elsewhere(run):
                self._failed.add(run)
                self._drop(run, "failed")
            elif (started := self._start(run)) is None:
                self._elsewhere[run] = time.time() + ELSEWHERE_SECONDS
            else:
                handle, state = started
                if state == "failed":
                    self._failed.add(run)
                else:
                    self._active[run] = handle
                self._drop(run, state)
                self._tick()

    def _collect_what_ended(self) -> None:
        for run, handle in list(self._active.items()):
            if (outcome := self._poll(run, handle)) is not None:
                del self._active[run]
                if outcome == "running":
                    self._waiting.append(run)
                    self._elsewhere[run] = time.time() + ELSEWHERE_SECONDS
                elif outcome == "done":
                    self._ended[run] = time.time()
                else:
                    self._failed.add(run)
                self._changed(run, outcome)

    def _numbers_are_late(self) -> bool:
        """Whether there are runs that were done, and whose numbers may still come; of others it is a failure."""
        for run, end in list(self._ended.items()):
            seen = state_of(run) in FINISHED
            if seen or end + self.late_seconds < time.time():
                del self._ended[run]
            if not seen and run not in self._ended:
                record_failure(run, "it ended well, and its numbers are not to be seen here", str(run.result))
                self._failed.add(run)
                self._changed(run, "failed")
        return bool(self._ended)

    def _source_is_ready(self, run: Run) -> bool:
        """Whether the checkpoint that a run evaluates is there; one that will never be makes it fail."""
        source = run.source
        if source is None or state_of(run) in FINISHED:
            return True
        if source in self._waiting or source in self._active:
            return False
        state = state_of(source)
        if source.weights.is_file() and state == "done":
            return True
        if source not in self._failed and self._may_come(source, state):
            self._elsewhere[run] = time.time() + ELSEWHERE_SECONDS
            return False
        why, way_out = f"{source.weights} is not on this machine", _train_again(source)
        if source in self._failed:
            why, way_out = f"{source.name} failed", "the same command tries both again"
        elif state == "changed":
            why = f"{source.name} was made under another config or data"
        elif state != "done":
            why, way_out = f"{source.name} is not trained to its end", _train_too(source, run)
        record_failure(run, f"needs the checkpoint of {source.row}: {why}", way_out)
        self._failed.add(run)
        self._drop(run, "failed")
        return False

    def _may_come(self, source: Run, state: str) -> bool:
        """Whether others still train a source, or have just done, so that its files may be late."""
        if state == "running" or self._is_queued(source):
            self._seen[source] = time.time()
            return True
        return time.time() < max(self._ended.get(source, 0), self._seen.get(source, 0)) + self.late_seconds

    def _is_queued(self, run: Run) -> bool:
        """Whether a run that is not ours waits in a cluster's queue."""
        return False

    def _failed_elsewhere(self, run: Run) -> bool:
        """Another process tried it since this one began: trying again would only repeat it.

        Unless it lacked the checkpoint that is there now.
        """
        failure = failure_of(run)
        since = self._begun if run.source is None else max(self._begun, run.source.weights.stat().st_mtime)
        return failure is not None and failure["time"] > since

    def _drop(self, run: Run, state: str) -> None:
        self._waiting.remove(run)
        self._elsewhere.pop(run, None)
        self._changed(run, state)


def _train_again(source: Run) -> str:
    """The arguments that train one source again, and nothing that is done."""
    return f"--rerun {source.row} --datasets {source.dataset} --seeds {source.seed} trains it again"


def _train_too(source: Run, run: Run) -> str:
    """The arguments that train a source which the command left out, before the run that evaluates it."""
    return f"--rows {source.row} {run.row} --datasets {source.dataset} --seeds {source.seed} trains it first"
