"""What ``--slurm`` takes: submitit's parameters for jobs of SLURM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit

# What --slurm calls submitit's parameters that are the same on every cluster.
GPUS = "gpus_per_node"
COMMON = {"gpus": GPUS, "cpus": "cpus_per_task", "minutes": "timeout_min", "memory": "mem_gb"}
# What sbatch has, too, and cannot be asked for here: why.
REFUSED = {
    **dict.fromkeys(("gres", "gpus_per_task", "num_gpus"), "ask for GPUs by gpus=N: a run has a process for each"),
    **dict.fromkeys(("nodes", "ntasks_per_node", "tasks_per_node"), "a run is one task on one machine"),
    **dict.fromkeys(("mem", "mem_per_gpu", "mem_per_cpu"), "ask for memory by memory=N, in GB"),
    **dict.fromkeys(("name", "job_name"), "jobs are called by study, row and seed"),
    "time": "give the time limit of a run as minutes=N: by it a run is requeued",
    "additional_parameters": "what submitit has no name for goes by sbatch's environment: SBATCH_RESERVATION=NAME",
}
# submitit's parameters that are lists, given once for each entry, and values that are no text.
LISTS = ("setup", "teardown", "srun_args")
BOOLEANS = {"true": True, "false": False}


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """``["partition=gpu", "gpus=4"]`` as submitit's parameters; names that are not of COMMON are submitit's for SLURM.

    Raises:
        ValueError: not KEY=VALUE, no number where one is needed, one of ``REFUSED``, no time limit.
    """
    parameters: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--slurm {text!r}: expected KEY=VALUE; keys: {', '.join(COMMON)}, partition, qos, ...")
        key = key.removeprefix("slurm_")
        if key in REFUSED:
            raise ValueError(f"--slurm {text!r}: {REFUSED[key]}")
        name = COMMON.get(key, key if key in COMMON.values() else f"slurm_{key}")
        if name in COMMON.values() and not (value.isascii() and value.isdigit() and (int(value) or name == GPUS)):
            kind = "; a kind of GPU is chosen by partition=NAME or constraint=NAME" if key.startswith("gpus") else ""
            raise ValueError(f"--slurm {text!r}: expected a whole number, as in {key}=4{kind}")
        if key in LISTS:
            parameters.setdefault(name, []).append(value)
        else:
            parameters[name] = int(value) if name in COMMON.values() else BOOLEANS.get(value.lower(), value)
    if "timeout_min" not in parameters:
        raise ValueError("--slurm: no minutes=N, the time limit of one run; submitit's own are 5 minutes")
    return parameters


def workers_of(parameters: Mapping[str, Any] | None, workers: int) -> int:
    """Processes of a run: as many as the GPUs that are asked for, or else ``workers``."""
    return int((parameters or {}).get(GPUS, 0)) or workers


def make_executor(
    parameters: Mapping[str, Any], *, workers: int, logs: Path, cluster: str = "slurm"
) -> submitit.AutoExecutor:
    """What submits jobs.

    Args:
        parameters: of ``parse_parameters``; without GPUs in it, one for each of ``workers``.
        logs: folder for submitit's files.
        cluster: ``slurm``; ``local`` and ``debug`` are submitit's stand-ins.

    Raises:
        ValueError: no cluster here, or a parameter that submitit does not know.
    """
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(**{GPUS: workers, "tasks_per_node": 1, **parameters})
    except (NameError, RuntimeError, ValueError) as error:
        raise ValueError(f"--slurm: {error}") from None
    return executor
