"""Hooks of the trainer: progress, memory, the stacks of a run that hangs, and a checkpoint when somebody stops it."""

import contextlib
import faulthandler
import logging
import os
import sys
import time

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from tqdm import tqdm

from ..data.memory import MIB, free_memory, resident, with_workers
from .launch import STOPPED, handling_stops, timeout

logger = logging.getLogger(__name__)


class TrainingInterrupted(SystemExit):
    """The run was stopped from outside after its state was saved; exit status 130."""

    def __init__(self, message: str):
        super().__init__(STOPPED)
        self.message = message

    def __str__(self):
        return self.message


class ProgressBar(HookBase):
    """A tqdm bar on the main worker, where standard error is a terminal."""

    def before_train(self):
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            disable=not (comm.is_main_process() and sys.stderr.isatty()),
            dynamic_ncols=True,
            unit="step",
        )

    def after_step(self):
        self._bar.update()
        if not self._bar.disable and self.trainer.iter % 10 == 0:
            storage = self.trainer.storage
            loss = storage.histories().get("total_loss")
            rate = self.trainer.optimizer.param_groups[0]["lr"]
            self._bar.set_postfix(loss=f"{loss.median(20):.3f}" if loss else "-", lr=f"{rate:.2g}")

    def after_train(self):
        self._bar.close()


class MemoryLog(HookBase):
    """Every 100 steps ``memory/rss_mib`` of this process and ``memory/total_mib`` with its data workers, shared pages
    counted once; into ``metrics.json``, and into the log at the start and the end."""

    PERIOD = 100

    def after_step(self):
        since = self.trainer.iter - self.trainer.start_iter
        if since % self.PERIOD:
            return
        resident_mib, total_mib = self._measure()
        self.trainer.storage.put_scalars(
            **{"memory/rss_mib": resident_mib, "memory/total_mib": total_mib}, smoothing_hint=False
        )
        if not since:
            self._log(resident_mib, total_mib)

    def after_train(self):
        self._log(*self._measure())

    def _measure(self) -> tuple[float, float]:
        return resident() / MIB, with_workers() / MIB

    def _log(self, resident_mib: float, total_mib: float) -> None:
        logger.info(
            f"Memory at iteration {self.trainer.iter}: {resident_mib:.0f} MiB (RSS), {total_mib:.0f} MiB with the data "
            f"workers, {free_memory() / MIB:.0f} MiB free"
        )


class StuckStep(HookBase):
    """Writes the stack of every thread to standard error when a step takes half as long as workers wait for another.

    So a job that hangs, because one worker never comes to a collective, shows where each of them is before it ends.
    """

    def before_step(self):
        # A notebook's own standard error has no file.
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(timeout().total_seconds() / 2, file=sys.__stderr__)

    def after_step(self):
        faulthandler.cancel_dump_traceback_later()

    after_train = after_step


class InterruptSaver(HookBase):
    """On SIGINT (Ctrl-C) or SIGTERM: finish the step, save a checkpoint, stop. A later second signal stops at once.

    What comes within ``SAME_SECONDS`` is one request: a terminal or a cluster may tell every process of a job, and the
    launcher tells its workers, too.
    """

    SAME_SECONDS = 2.0  # a machine that is busy delivers late

    def __init__(self, checkpointer):
        self._checkpointer = checkpointer
        self._received = None  # when the first signal came
        self._handling = contextlib.ExitStack()

    def before_train(self):
        # Signals can be handled in the main thread only; elsewhere (a notebook's worker) nothing is installed.
        with contextlib.suppress(ValueError):
            self._handling.enter_context(handling_stops(self._on_signal))

    def _on_signal(self, number, frame):
        if self._received is not None:
            if time.monotonic() > self._received + self.SAME_SECONDS:
                self._handling.close()
                os.kill(os.getpid(), number)
            return
        self._received = time.monotonic()

    def after_step(self):
        if not self._anyone_stopped():
            return
        if comm.is_main_process():
            self._checkpointer.save("model_interrupted", iteration=self.trainer.iter)
        comm.synchronize()  # whoever starts the workers ends all of them when the first has left
        message = f"stopped after iteration {self.trainer.iter}; the state is saved: continue with --resume"
        logger.warning(message)
        raise TrainingInterrupted(message)

    def after_train(self):
        self._handling.close()

    def _anyone_stopped(self) -> bool:
        """Whether any worker got a signal: all must leave after the same step, or the others wait for ever."""
        if comm.get_world_size() == 1:
            return self._received is not None
        device = next(self.trainer.model.parameters()).device
        flag = torch.tensor(float(self._received is not None), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())


@contextlib.contextmanager
def quiet_terminal():
    """Keep the periodic lines of losses out of a terminal that shows a progress bar; the log file keeps them."""

    def is_not_periodic(record):
        return record.name != "detectron2.utils.events"

    handlers = [h for h in logging.getLogger("detectron2").handlers if getattr(h, "stream", None) is sys.stdout]
    handlers = handlers if sys.stderr.isatty() else []
    for handler in handlers:
        handler.addFilter(is_not_periodic)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_not_periodic)
