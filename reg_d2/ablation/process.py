"""Child processes: they get a log, a share of the machine, and never outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..data.catalog import REPOSITORY
from ..engine.launch import handling_stops

TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """A program in a process group of its own, which writes to a log.

    Where the starting process is killed, the program gets SIGTERM, on which a training saves its state and stops.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], keep_open: Sequence[int] = ()
    ):
        """
        Args:
            log: appended to.
            environment: the whole of it.
            keep_open: file descriptors that the program gets.
        """
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            self._start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches it through us only, once
                pass_fds=tuple(keep_open),
                preexec_fn=_prepare(os.getpid()),
            )

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def await_end(self) -> None:
        """Return when it has ended, its status still to be polled. Takes no lock: a signal handler may call it."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def interrupt(self) -> None:
        """As Ctrl-C: a training finishes its step, saves its state and stops."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def tail(self) -> str:
        """The last lines that it printed."""
        with open(self.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._start, size - 16384))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _prepare(parent: int):
    """For the new process, before its program starts: SIGTERM when the parent is gone (Linux).

    SIGUSR1 and SIGUSR2 are ignored: with one of them a cluster warns a job, in some set-ups every process of it, and a
    program that does not expect them would die before the job can have it save its state.
    """

    def prepare():
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

    return prepare


def environment(threads: int | None = None, gpus: Sequence[str] | None = None) -> dict[str, str]:
    """This process's environment for a child that imports the same reg_d2.

    Args:
        threads: ``OMP_NUM_THREADS``, unless it is set already.
        gpus: ``CUDA_VISIBLE_DEVICES``; None: as it is.
    """
    result = dict(os.environ)
    result["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), result.get("PYTHONPATH")]))
    if threads is not None:
        result.setdefault("OMP_NUM_THREADS", str(threads))
    if gpus is not None:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return result


class StopRequest:
    """How often somebody asked this process to stop (Ctrl-C, SIGTERM)."""

    def __init__(self):
        self.count = 0

    def __bool__(self):
        return self.count > 0

    def wait(self, seconds: float) -> bool:
        """Sleep, less long where a request comes; whether there is one."""
        end = time.monotonic() + seconds
        while not self and time.monotonic() < end:
            time.sleep(min(0.1, seconds))
        return bool(self)


@contextmanager
def stop_requests():
    """Within, SIGINT and SIGTERM are counted and interrupt nothing."""
    request = StopRequest()

    def received(*_):
        request.count += 1

    with handling_stops(received):
        yield request


def wait_for(child: Child, stop: StopRequest) -> int:
    """A child's exit status in the end; the first request to stop interrupts it, the second kills it."""
    seen = 0
    while (status := child.poll()) is None:
        if stop.count > seen:
            child.kill() if seen else child.interrupt()
            seen = stop.count
        time.sleep(0.1)
    return status
