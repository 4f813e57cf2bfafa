"""Runs side by side on this machine: several on one GPU, cores divided among them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence

import torch

from .execution import Execution
from .locks import is_locked
from .runner import Runner
from .runs import Run


def share_of_cores(jobs: int, workers: int) -> int:
    """Threads of each process when ``jobs`` runs of ``workers`` processes share this process's cores; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // (jobs * workers))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; [] on a machine without."""
    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]


def least_used(gpus: Sequence[str], taken: Collection[str], number: int) -> list[str]:
    """``number`` different GPUs of which the fewest are taken, in the order of ``gpus``."""
    load = Counter(taken)
    return sorted(sorted(gpus, key=lambda gpu: load[gpu])[:number], key=gpus.index)


class LocalRunner(Runner):
    """``settings.jobs`` programs at a time. Asked to stop once, they save their state and stop; twice, they are
    killed."""

    poll_seconds = 0.2

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._gpus = visible_gpus()
        self._threads = share_of_cores(self.settings.jobs, self.settings.workers)

    def _has_room(self) -> bool:
        return len(self._active) < self.settings.jobs

    def _start(self, run: Run):
        if is_locked(run.lock):
            return None
        gpus = None
        if self._gpus:
            taken = [gpu for _, used in self._active.values() for gpu in used]
            gpus = least_used(self._gpus, taken, self.settings.workers)
        execution = Execution.start(run, self.settings, threads=self._threads, gpus=gpus)
        return None if execution is None else ((execution, gpus or []), "running")

    def _poll(self, run: Run, handle) -> str | None:
        return handle[0].poll()

    def _stop_active(self) -> None:
        for execution, _ in self._active.values():
            execution.interrupt()
