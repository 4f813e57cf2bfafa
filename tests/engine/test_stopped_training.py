"""Ctrl-C and SIGTERM: a training that is stopped saves its state, says so, and goes on with --resume."""

import contextlib
import os
import signal
import subprocess
import time

import psutil
import pytest

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine.hooks import InterruptSaver, TrainingInterrupted
from reg_d2.engine.launch import handling_stops

from .running import command, trainer


def test_an_interrupted_run_is_saved_and_goes_on(workspace):
    t = trainer(workspace, "SOLVER.CHECKPOINT_PERIOD", 1000)
    t.model.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM) if t.iter == 1 else None)
    with pytest.raises(TrainingInterrupted, match="continue with --resume"):
        t.train()
    resumed = trainer(workspace, resume=True)
    assert resumed.start_iter == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_signals_of_one_moment_are_one_request_and_a_later_one_stops_at_once(workspace, monkeypatch):
    def both(*_):
        if t.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    t = trainer(workspace, "SOLVER.CHECKPOINT_PERIOD", 1000)
    t.model.register_forward_pre_hook(both)
    with pytest.raises(TrainingInterrupted):
        t.train()
    monkeypatch.setattr(InterruptSaver, "SAME_SECONDS", -1.0)
    t = trainer(workspace, "SOLVER.CHECKPOINT_PERIOD", 1000)
    t.model.register_forward_pre_hook(both)
    # What a shell starts in the background ignores SIGINT.
    with handling_stops(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        t.train()


@pytest.mark.parametrize(
    ("workers", "number", "told"),
    [
        (1, signal.SIGINT, "group"),  # as a terminal does: the data workers, too
        (2, signal.SIGINT, "group"),
        (2, signal.SIGTERM, "launcher"),
        (2, signal.SIGTERM, "everyone"),  # as some clusters do
    ],
)
def test_a_stopped_command_ends_with_a_checkpoint_and_no_traceback(workspace, tmp_path, workers, number, told):
    options = ["SOLVER.MAX_ITER", 100000, "DATALOADER.NUM_WORKERS", 1]
    process = subprocess.Popen(
        command(workspace, "--num-gpus", str(workers), options=options),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "out" / "metrics.json"
    try:
        deadline = time.time() + 240
        while not log.exists() and time.time() < deadline and process.poll() is None:
            time.sleep(0.2)
        time.sleep(1.0)
        if told == "group":
            os.killpg(process.pid, number)
        else:
            below = psutil.Process(process.pid).children(recursive=True) if told == "everyone" else []
            for pid in (process.pid, *(child.pid for child in below)):
                with contextlib.suppress(ProcessLookupError):  # a data worker whose trainer is gone
                    os.kill(pid, number)
        output, _ = process.communicate(timeout=180)
    finally:
        # Without it a failure would leave a training run behind that never ends.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert (tmp_path / "out" / "model_interrupted.pth").exists()
