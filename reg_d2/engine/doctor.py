"""What a bug report is asked for: the machine, the installed stack and the data, and what is wrong with them."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .. import compat
from ..data.catalog import ROOT_VARIABLE, dataset_root, read_catalog

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "pycocotools", "geoopt")
DETECTRON2_DISTRIBUTIONS = ("detectron2", "pb1-detectron2")
LEAST_SHARED_MEMORY = 1.0  # GiB, below which data workers die with "Bus error"
LEAST_MEMORY = 4.0  # GiB that are free


@dataclass(frozen=True)
class Line:
    """One line of the report; ``mend``, where something is wrong, says how it is mended."""

    topic: str
    value: str
    mend: str = ""
    serious: bool = False


def examine(catalog: str = "configs/datasets.yaml") -> list[Line]:
    """Look at everything; a probe that fails becomes a line of its own and stops none of the others.

    Args:
        catalog: the catalogue of data sets.
    """
    probes: tuple[Callable[[], list[Line]], ...] = (
        _python,
        _packages,
        _detectron2,
        _cuda,
        _compiler,
        _memory,
        _workers,
        _distributed,
        lambda: _data(catalog),
    )
    lines = []
    for probe in probes:
        # The report is what is asked for when things are broken: it must come to its end.
        try:
            lines += probe()
        except Exception as error:
            lines.append(Line("?", f"{type(error).__name__}: {error}", "this could not be examined", serious=True))
    return lines


def as_text(lines: list[Line]) -> str:
    """The report: one line a topic, then what is wrong and what mends it."""
    width = max(len(line.topic) for line in lines)
    text = [f"{line.topic:<{width}}  {line.value}" for line in lines]
    wrong = [line for line in lines if line.mend]
    text += ["", "Nothing is wrong." if not wrong else "What is wrong, and what mends it:"]
    for line in wrong:
        text += [f"{'error' if line.serious else 'warning'}: {line.topic}: {line.value}", f"  {line.mend}"]
    return "\n".join(text)


def _python() -> list[Line]:
    mend = "" if (3, 10) <= sys.version_info < (3, 13) else "make setup PYTHON=python3.12"
    return [
        Line("system", platform.platform()),
        Line("python", f"{platform.python_version()} ({sys.executable})", mend, serious=bool(mend)),
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> list[Line]:
    lines = [Line("reg_d2", _version("reg_d2") or "not installed: run from the checkout")]
    for name in PACKAGES:
        version = _version(name)
        mend = "" if version else f"pip install {name}"
        lines.append(Line(name, version or "not installed", mend, serious=not version))
    others = [n for n in ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless") if _version(n)]
    if others:
        mend = f"pip uninstall -y {' '.join(others)} opencv-python-headless && pip install opencv-python-headless"
        lines.append(Line("opencv", f"{', '.join(others)} writes the same files as opencv-python-headless", mend))
    return lines


def _detectron2() -> list[Line]:
    found = [f"{name} {version}" for name in DETECTRON2_DISTRIBUTIONS if (version := _version(name))]
    if len(found) == 2:
        mend = "pip uninstall -y pb1-detectron2 detectron2, then one of them again (README, Install)"
        return [Line("detectron2", f"two at once: {', '.join(found)}", mend, serious=True)]
    if not found:
        return [Line("detectron2", "not installed", "make setup", serious=True)]
    kind = "official" if found[0].startswith("detectron2") else "Python files of the official release 0.6"
    compiled = compat.has_compiled_operators()
    operators = "compiled" if compiled else "not compiled: REG does not need them; rotated boxes and deformable do"
    lines = [Line("detectron2", f"{found[0]} ({kind})"), Line("detectron2._C", operators)]
    if compiled:
        try:
            importlib.import_module("detectron2._C")
        except ImportError as error:
            lines[-1] = Line("detectron2._C", f"does not load: {error}", compat.INSTALL_HINT, serious=True)
    return lines


def _cuda() -> list[Line]:
    built = torch.version.cuda
    lines = [Line("torch built for CUDA", built or "no: CPU only")]
    driver = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            lines.append(_gpu(i))
    elif driver and not built:
        mend = "install a torch for CUDA: make setup, or the command of pytorch.org for your driver"
        lines.append(Line("GPU", f"there is one, and torch cannot use it: {driver}", mend, serious=True))
    elif driver:
        mend = f"update the driver to one for CUDA {built}, or install a torch that was built for an older CUDA"
        lines.append(Line("GPU", f"torch does not reach it: {driver}", mend, serious=True))
    else:
        lines.append(Line("GPU", "none: everything runs on the CPU"))
    if driver:
        lines.append(Line("driver", driver))
    return lines


def _gpu(index: int) -> Line:
    about = torch.cuda.get_device_properties(index)
    free, total = (n / 2**30 for n in torch.cuda.mem_get_info(index))
    architecture = f"sm_{about.major}{about.minor}"
    value = f"{about.name}, {architecture}, {free:.1f} of {total:.1f} GiB free"
    known = torch.cuda.get_arch_list()
    # A build for an older minor version of the same major runs here.
    fits = any(a.startswith(f"sm_{about.major}") or a.startswith("compute_") for a in known)
    mend = "" if fits else f"install a torch that was built for {architecture}; this one is for {' '.join(known)}"
    return Line(f"GPU {index}", value, mend, serious=not fits)


def _compiler() -> list[Line]:
    """Needed only to compile Detectron2."""
    nvcc = _output("nvcc", "--version")
    if not nvcc:
        return [Line("nvcc", "none: needed only to compile Detectron2's operators")]
    release = nvcc.partition("release ")[2].partition(",")[0]
    built = torch.version.cuda
    mend = ""
    if built and release.split(".")[0] != built.split(".")[0]:
        mend = f"before compiling Detectron2, install the CUDA {built} toolkit: it must be the one of torch"
    return [Line("nvcc", release or nvcc.splitlines()[-1], mend)]


def _memory() -> list[Line]:
    with open("/proc/meminfo") as f:
        info = {line.split(":")[0]: int(line.split()[1]) / 2**20 for line in f}
    mend = "" if info["MemAvailable"] >= LEAST_MEMORY else "stop other programs, or fewer DATALOADER.NUM_WORKERS"
    lines = [Line("memory", f"{info['MemAvailable']:.1f} of {info['MemTotal']:.1f} GiB free", mend)]
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm")
        mend = "docker run --shm-size 8g, or DATALOADER.NUM_WORKERS 0"
        enough = shared.total / 2**30 >= LEAST_SHARED_MEMORY
        value = f"{shared.free / 2**30:.1f} of {shared.total / 2**30:.1f} GiB free"
        lines.append(Line("shared memory", value, "" if enough else mend, serious=not enough))
    return lines


def _workers() -> list[Line]:
    cores = len(os.sched_getaffinity(0))
    limit = os.cpu_count() or cores
    return [Line("CPUs", f"{cores} of {limit} for this process: DATALOADER.NUM_WORKERS {min(4, cores)} is a start")]


def _distributed() -> list[Line]:
    import torch.distributed as dist

    if not dist.is_available():
        mend = "install a torch with torch.distributed for more than one process"
        return [Line("distributed", "not in this torch", mend)]
    lines = [Line("gloo", "yes" if dist.is_gloo_available() else "no")]
    if dist.is_nccl_available() and torch.cuda.is_available():
        lines.append(Line("NCCL", ".".join(str(n) for n in torch.cuda.nccl.version())))
    else:
        missing = torch.cuda.device_count() > 1
        mend = "install a torch with NCCL: several GPUs need it" if missing else ""
        lines.append(Line("NCCL", "in torch, without a GPU" if dist.is_nccl_available() else "no", mend))
    return lines


def _data(catalog: str) -> list[Line]:
    root = dataset_root()
    set_by = f"${ROOT_VARIABLE}" if os.environ.get(ROOT_VARIABLE) else f"the default; ${ROOT_VARIABLE} is not set"
    mend = "" if root.is_dir() else f"export {ROOT_VARIABLE}=/folder/of/your/data, or make {root}"
    lines = [Line("data root", f"{root.resolve()} ({set_by})", mend)]
    try:
        entries = read_catalog(catalog)
    except (OSError, ValueError) as error:
        return [*lines, Line("catalogue", f"{error}", "name a catalogue with --catalog", serious=True)]
    there = [e.name for e in entries.values() if e.json.is_file() and e.images.is_dir()]
    half = [e for e in entries.values() if e.json.is_file() != e.images.is_dir()]
    lines.append(
        Line("catalogue", f"{catalog}: {len(there)} of {len(entries)} data sets are there: {', '.join(there)}")
    )
    for entry in half:
        missing = entry.images if entry.json.is_file() else entry.json
        lines.append(Line(entry.name, f"{missing} is missing", f"put it there, or correct the line in {catalog}"))
    return lines


def _output(*command: str) -> str:
    """What a program prints; "" where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
