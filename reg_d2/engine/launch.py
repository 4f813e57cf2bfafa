"""Starting the workers: spawned here, or by torchrun; NCCL on GPUs, gloo on CPUs."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from .. import compat

TIMEOUT = timedelta(minutes=10)
# The exit status of a job that was asked to stop.
STOPPED = 130

_timeout = TIMEOUT


@contextlib.contextmanager
def handling_stops(handler: Callable):
    """Within, ``handler(number, frame)`` gets SIGINT and SIGTERM; main thread only.

    Raises:
        ValueError: in another thread.
    """
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def timeout() -> timedelta:
    """How long a worker of this job waits for the others before it gives up."""
    return _timeout


def launch(
    main: Callable,
    num_workers: int,
    *,
    device: str = "cuda",
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple = (),
    wait: timedelta = TIMEOUT,
) -> None:
    """Run ``main(*args)`` in every worker of a job.

    Under ``torchrun`` (``RANK`` and ``WORLD_SIZE`` are set) this process is one worker, and the other arguments are
    not used. Else ``num_workers`` processes are spawned on this machine; with a single worker in all, ``main`` runs
    right here.

    Args:
        main: a picklable function.
        num_workers: processes on this machine: one a GPU, or any number on CPUs.
        device: ``cuda`` or ``cpu`` (``MODEL.DEVICE``): decides NCCL or gloo.
        num_machines, machine_rank: the number of machines, and which one this is.
        dist_url: ``tcp://host:port`` of machine 0; ``auto`` finds a free port, on a single machine only.
        args: of ``main``.
        wait: how long a worker waits for the others; half of it in one step has their stacks printed.

    Raises:
        ValueError: more workers than GPUs, a rank out of range, or ``auto`` with several machines.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        _join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), local_rank, local_size, "env://", device, wait)
        _run(main, args)
        return
    check_workers(num_workers, device, num_machines, machine_rank, dist_url)
    world_size = num_workers * num_machines
    if world_size == 1:
        main(*args)
        return
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    arguments = (main, args, world_size, num_workers, machine_rank, dist_url, device, wait)
    workers = mp.spawn(_worker, nprocs=num_workers, args=arguments, join=False)
    try:
        with _waiting_for(workers.processes) as received:
            while not workers.join():
                pass
    except mp.ProcessExitedException as error:
        # A worker left with a status of its own (wrong input, Ctrl-C) and has said why; or it was stopped before it
        # had anything to save.
        stopped = error.exit_code in (-signal.SIGINT, -signal.SIGTERM)
        raise SystemExit(STOPPED if stopped else error.exit_code) from None
    # A worker in which Ctrl-C is an exception, before and after the training, ends well for torch.
    if received:
        raise SystemExit(STOPPED)


@contextlib.contextmanager
def _waiting_for(processes):
    """Within, SIGINT and SIGTERM are passed on: the workers save their state, and this process waits for them.

    A third one kills workers that are deaf. Yields a list of those that came.
    """
    received = []

    def pass_on(number, frame):
        received.append(number)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number if len(received) < 3 else signal.SIGKILL)

    # Signals can be handled in the main thread only.
    in_main_thread = threading.current_thread() is threading.main_thread()
    with handling_stops(pass_on) if in_main_thread else contextlib.nullcontext():
        yield received


def _worker(local_rank, main, args, world_size, num_workers, machine_rank, dist_url, device, wait):
    # This process was spawned; its data workers need not be: forked, they share its memory and start at once.
    mp.set_start_method("fork", force=True)
    _join(machine_rank * num_workers + local_rank, world_size, local_rank, num_workers, dist_url, device, wait)
    _run(main, args)


def _join(rank, world_size, local_rank, local_size, dist_url, device, wait):
    global _timeout
    _timeout = wait
    if "TORCH_DISTRIBUTED_DEBUG" not in os.environ:
        # At this level torch's error names the parameters that no loss has reached.
        dist.set_debug_level(dist.DebugLevel.INFO)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(local_rank)
    else:
        # Each worker would otherwise start a thread per core, and the workers would wait for one another.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size))
    dist.init_process_group("nccl" if on_gpu else "gloo", dist_url, wait, world_size, rank)
    compat.create_local_process_group(local_size)
    # Every worker must be up before the first collective of the training starts its clock.
    dist.barrier()


def _run(main, args):
    try:
        main(*args)
    finally:
        dist.destroy_process_group()


def check_workers(
    num_workers: int, device: str, num_machines: int = 1, machine_rank: int = 0, dist_url: str = "auto"
) -> None:
    """Refuse what cannot be launched, before anything is; arguments as in :func:`launch`.

    Raises:
        ValueError: with the flag at fault.
    """
    if num_workers < 1 or num_machines < 1 or not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"--num-gpus {num_workers} --num-machines {num_machines} --machine-rank {machine_rank}: expected at least "
            "one worker and one machine, and a rank below the number of machines"
        )
    if num_machines > 1 and dist_url == "auto":
        raise ValueError("--dist-url auto works on one machine only: give tcp://HOST:PORT of machine 0")
    available = torch.cuda.device_count()
    if device.startswith("cuda") and num_workers > available:
        raise ValueError(
            f"--num-gpus {num_workers}, and this machine has {available}. On CPUs set MODEL.DEVICE cpu: --num-gpus is "
            "the number of processes there"
        )


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
