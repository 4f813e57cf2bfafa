"""Evaluation results on disk and in the flat forms that Detectron2 reads."""

from __future__ import annotations

import json
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def save_results(path: str | os.PathLike, results: Mapping) -> None:
    """Write results as strict JSON (no NaN, no Infinity), all or nothing: a kill leaves the old file or the new one.

    Raises ValueError that names the first number that is not finite; nothing is written then.
    """
    for key, value in _leaves(results):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"results[{key!r}] is {value}: JSON has no such number; use None for what is not defined")
    replace_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def replace_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 file, and its folders; whoever reads the path sees the old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def detectron2_metrics(results: Mapping) -> OrderedDict[str, dict[str, float]]:
    """``{task: {metric: float}}`` for Detectron2's print_csv_format, verify_results and EvalHook.

    The numbers of each task and, as "AP-<class>", each class's AP (Detectron2's own name for it). None, for what has
    no ground truth, is left out: Detectron2 wants floats.
    """
    flat = OrderedDict()
    for task, values in results.items():
        if isinstance(values, Mapping):
            numbers = {k: float(v) for k, v in values.items() if isinstance(v, (int, float))}
            by_class = {f"AP-{name}": v["AP"] for name, v in values.get("per_class", {}).items()}
            flat[task] = numbers | {k: float(v) for k, v in by_class.items() if v is not None}
    return flat


def flat_metrics(results: Mapping) -> dict[str, float]:
    """``{"bbox/AP": ...}`` for TensorBoard and the event storage; what is None is left out."""
    return {f"{task}/{k}": v for task, values in detectron2_metrics(results).items() for k, v in values.items()}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for k, v in value.items():
            yield from _leaves(v, f"{key}/{k}" if key else str(k))
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _leaves(v, f"{key}/{i}")
    else:
        yield key, value
