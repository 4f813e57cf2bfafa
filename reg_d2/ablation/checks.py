"""Whether a result has what tables are made from, of the right types: a program of one's own may write anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUIRED = {"study", "dataset", "row", "seed", "config_hash", "config", "metrics"}
MAPPINGS = ("metrics", "cost", "hardware", "versions", "data", "config", "source_config")
COUNTS = ("workers", "side_by_side")
# Of a task, what is no number.
PER_CLASS, NAMES = "per_class", "rarest_classes"


def check_result(content: Any) -> None:
    """Check a result as ``results.collect`` makes it and ``results.read_result`` finds it.

    Raises:
        ValueError: what it lacks, or a value of another type; it names the key.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it is {_short(content)}; expected a mapping")
    if missing := REQUIRED - set(content):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for key in MAPPINGS:
        _check_mapping(key, content.get(key, {}))
    for task, values in content["metrics"].items():
        _check_task(task, values)
    for key, value in content.get("cost", {}).items():
        _check_number(f"cost {key}", value)
    for key in COUNTS:
        value = content.get("hardware", {}).get(key, 1)
        if type(value) is not int or value < 1:
            raise ValueError(f"hardware {key} is {_short(value)}; expected a whole number from 1 up")


def _check_task(task: str, values: Any) -> None:
    _check_mapping(task, values)
    for key, value in values.items():
        if key == PER_CLASS:
            _check_mapping(f"{task} {key}", value)
            for name, numbers in value.items():
                _check_mapping(f"{task} {key} {name!r}", numbers)
                for k, number in numbers.items():
                    _check_number(f"{task} {key} {name!r} {k}", number)
        elif key != NAMES:
            _check_number(f"{task} {key}", value)


def _check_mapping(key: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {_short(value)}; expected a mapping")


def _check_number(key: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{key} is {_short(value)}; expected a number or null")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
