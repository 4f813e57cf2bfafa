"""The numbers of one run as a small JSON file: what tables are made from, on any machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..data.catalog import REPOSITORY
from ..evaluation import save_results
from ..report.provenance import git_commit
from .checks import check_result
from .options import changed_keys, config_hash, reference_workers

TASKS = ("bbox", "segm", "segm_boxes")
NUMBERS = ("AP", "AP50", "AP75", "precision", "recall", "f1")
RAREST = 2
# Of an evaluation's config: the hash of the one that its checkpoint was trained with.
EVALUATE_OF = "evaluate_of"
DATA_OF = "data of "
PACKAGES = ("torch", "torchvision", "numpy")


def read_result(path: str | os.PathLike) -> dict | None:
    """A stored result; None where there is none.

    Raises:
        ValueError: a file that is no result.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_result(content)
    except ValueError as error:
        raise ValueError(f"{path} is not a result ({error}): delete it, and its run is done again") from None
    return content


def changes(stored: Mapping[str, Any], run) -> dict[str, tuple[Any, Any]]:
    """What a stored result was made with and its run is not: config key, or ``data of NAME`` -> (then, now).

    Data that are not on this machine, or were not when the result was made, count as unchanged.

    Args:
        stored: of ``read_result``.
        run: a ``runs.Run``.
    """
    then = stored.get("data", {})
    return config_changes(stored, run) | {
        f"{DATA_OF}{name}": (then[name], now) for name, now in run.data.items() if then.get(name, now) != now
    }


def config_changes(stored: Mapping[str, Any], run) -> dict[str, tuple[Any, Any]]:
    """As ``changes``, of the configs alone: the run's own, and the one that the checkpoint was trained with.

    Args:
        stored: with ``config`` and, of an evaluation, ``source_config``.
    """
    then, now = dict(stored["config"]), dict(run.config)
    was, is_now = then.pop(EVALUATE_OF, None), now.pop(EVALUATE_OF, None)
    if was == is_now:
        return changed_keys(then, now)
    source = None if run.source is None else _source_config(stored, was, run.source)
    if source is None:
        return changed_keys(then, now) | {EVALUATE_OF: (was, is_now)}
    return changed_keys(source, run.source.config) | changed_keys(then, now)


def _source_config(stored: Mapping[str, Any], hash_then: str | None, source) -> Mapping[str, Any] | None:
    """What the checkpoint of an evaluation was trained with; results of before it was stored have its hash alone."""
    if "source_config" in stored:
        return stored["source_config"]
    trained = read_result(source.result)
    return trained["config"] if trained is not None and trained["config_hash"] == hash_then else None


def made_with(run) -> dict[str, Any]:
    """``config`` and, of an evaluation, ``source_config``, as ``config_changes`` compares them."""
    found = {"config": dict(run.config)}
    return found if run.source is None else found | {"source_config": dict(run.source.config)}


def describe(changed: Mapping[str, tuple[Any, Any]], limit: int = 5) -> str:
    """``under another config: SOLVER.MAX_ITER was 7, is 25``; ``with other data: data of x were ab12, are cd34``."""
    how = "with other data" if all(key.startswith(DATA_OF) for key in changed) else "under another config"
    parts = []
    for key, (old, new) in list(changed.items())[:limit]:
        was, are = ("were", "are") if key.startswith(DATA_OF) else ("was", "is")
        parts.append(f"{key} {was} {old}, {are} {new}")
    return f"{how}: {', '.join(parts)}"


def collect(run, *, side_by_side: int, data: Mapping[str, str]) -> dict[str, Any]:
    """A finished run's numbers from its folder, and where they come from.

    Args:
        run: a ``runs.Run``.
        side_by_side: how many runs shared the machine, which step times depend on.
        data: fingerprints of its data when it began.

    Raises:
        OSError, ValueError: its folder lacks results.json, or that or cost.json is not as tools/train_net.py writes it.
    """
    evaluated = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
    cost_file = run.folder / "cost.json"
    cost = json.loads(cost_file.read_text(encoding="utf-8")) if cost_file.is_file() else {}
    try:
        metrics = {task: task_metrics(evaluated[task]) for task in TASKS if task in evaluated}
        hardware = dict(cost.get("hardware", {}))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"results.json or cost.json is not as tools/train_net.py writes it ({error!r})") from None
    if not metrics:
        raise ValueError(f"results.json has none of {', '.join(TASKS)}")
    result = {
        "study": run.study,
        "dataset": run.dataset,
        "row": run.row,
        "seed": run.seed,
        "metrics": metrics,
        "cost": {k: v for k, v in cost.items() if k != "hardware"},
        "hardware": {**hardware, "side_by_side": side_by_side},
        "versions": {p: metadata.version(p) for p in PACKAGES},
        "git_commit": git_commit(),
        "finished": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "data": dict(data),
        "config_hash": config_hash(run.config),
        **made_with(run),
    }
    check_result(result)
    return result


def read_results(results: str | os.PathLike) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """The stored results of all studies by their files, and what is wrong with files that are none."""
    found, broken = {}, []
    for path in sorted(Path(results).glob("*/*/*-seed*.json")):
        try:
            found[path] = read_result(path)
        except ValueError as error:
            broken.append(str(error))
    return found, broken


def find_equal(
    results: str | os.PathLike, stored: Mapping[Path, Mapping[str, Any]], run, workers: int
) -> tuple[Path, dict[str, Any]] | None:
    """A stored result of any study with a run's config and data: the file, and its content under the run's name.

    Studies have rows in common; such a row need not be trained once for each. ``copied_from`` of the content says
    where its numbers were made.

    Args:
        results: folder of all studies' results.
        stored: of ``read_results``.
        run: a ``runs.Run`` without a result; without its data here nothing is equal.
        workers: GPUs of the run, or its processes on CPUs: where the config is scaled to them, they must be equal, too.
    """
    data, scaled = run.data, reference_workers(run.config) > 0
    # A program outside the repository is known by its path as written, which in another study may be another file.
    program = run.config.get("program")
    own_program = program is not None and not (REPOSITORY / program).is_file()
    for path, result in stored.items():
        if own_program and result["study"] != run.study:
            continue
        if scaled and result.get("hardware", {}).get("workers") != workers:
            continue
        if data and result.get("data") == data and result["seed"] == run.seed and not changes(result, run):
            origin = result.get("copied_from", path.relative_to(results).with_suffix("").as_posix())
            place = {"study": run.study, "dataset": run.dataset, "row": run.row, "seed": run.seed}
            return path, {**result, **place, "copied_from": origin}
    return None


def store(path: str | os.PathLike, result: Mapping) -> None:
    """Write a result, all or nothing."""
    save_results(path, result)


def task_metrics(values: Mapping) -> dict[str, Any]:
    """What a study keeps of one task of ``results.json``.

    Returns:
        ``AP, AP50, AP75, precision, recall, f1``; where training counts are known ``AP_head``, ``AP_middle``,
        ``AP_tail`` and ``AP_rarest``, the mean AP of the ``rarest_classes``,
        two of those with ground truth; ``per_class``: AP and number of objects. In percent; None without ground truth.
        ``per_empty_image``: detections in each image without objects, where there are such images.
    """
    result: dict[str, Any] = {key: values.get(key) for key in NUMBERS}
    groups = values.get("by_frequency")
    if groups is not None:
        result |= {f"AP_{group}": part["AP"] for group, part in groups.items()}
        counts = {n: k for g in groups.values() for n, k in zip(g["classes"], g["train_counts"], strict=True)}
        # Of the classes that can be measured: one without ground truth would leave the mean to the other.
        measured = {n: values["per_class"][n]["AP"] for n in counts if values["per_class"][n]["AP"] is not None}
        rarest = sorted(measured, key=lambda name: (counts[name], name))[:RAREST]
        known = [measured[n] for n in rarest]
        result |= {"AP_rarest": float(np.mean(known)) if known else None, "rarest_classes": rarest}
    empty = values.get("empty_images", {})
    if empty.get("images") and empty["detections"] is not None:
        result["per_empty_image"] = empty["detections"] / empty["images"]
    per_class = values.get("per_class", {})
    result["per_class"] = {name: {"AP": v["AP"], "num_gt": v["num_gt"]} for name, v in per_class.items()}
    return result
