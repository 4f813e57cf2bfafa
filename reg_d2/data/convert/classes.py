"""Class lists: the names behind the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..strict_yaml import read_yaml
from .builder import ConversionError, at


def read_classes(classes: Sequence[str] | Path | None) -> dict[int, str]:
    """Number -> name, from a list, a file of one name a line, or YAML with ``names`` (a list or a mapping).

    A list counts from 0. The numbers of a mapping may have gaps, and keep their meaning.

    Raises:
        ConversionError: the file holds nothing of the kind; or a name is empty or there twice, which would give other
            names to the numbers after it.
    """
    if classes is None:
        return {}
    with at(classes if isinstance(classes, Path) else "classes"):
        content = _read(classes) if isinstance(classes, Path) else list(classes)
        if isinstance(content, dict):
            numbers = [_number(key) for key in content]
            names = [_name(value, f"class {key}") for key, value in content.items()]
        else:
            numbers = list(range(len(content)))
            names = [_name(value, f"entry {i}") for i, value in enumerate(content, start=1)]
        if not names or len(set(names)) < len(names) or len(set(numbers)) < len(numbers):
            raise ConversionError(f"expected distinct class names, found {names}")
    return dict(zip(numbers, names, strict=True))


def need_classes(classes: dict, what: str, how: str) -> None:
    """Raises ConversionError where a format that holds class numbers only came without names."""
    if not classes:
        raise ConversionError(f"{what} hold class numbers only: give the names with --classes, {how}")


def _read(path: Path) -> list | dict:
    if path.suffix not in (".yaml", ".yml"):
        text = path.read_text(encoding="utf-8-sig")
        return text.rstrip().split("\n") if text.strip() else []
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise ConversionError(f"no YAML file: {error}") from None
    content = content.get("names", content) if isinstance(content, dict) else content
    if not isinstance(content, (list, dict)):
        raise ConversionError(f"expected a list of names, or a mapping of number to name, found {content!r}")
    return content


def _number(key: object) -> int:
    text = str(key).strip()
    if isinstance(key, bool) or not text.isdecimal():
        raise ConversionError(f"{key!r} for the number of a class; expected 0, 1, 2, ...")
    return int(text)


def _name(value: object, place: str) -> str:
    if isinstance(value, bool):  # YAML's no, off, yes and on
        raise ConversionError(f"{place} is read as {value}: put quotes around it")
    text = "" if value is None else str(value).strip()
    if not text:
        raise ConversionError(f"{place} has no name")
    return text
