"""A study as its YAML file describes it, strictly checked.

base: configs/studies/base/highway.yaml     # a whole config
set: {SOLVER.MAX_ITER: 600}                 # on top of it, for all rows
base_row: cross_entropy                     # what the rows are compared with
also_versus: both                           # a second row that they are compared with
seeds: [0, 1, 2]
datasets:
  highway:
    make: tools/make_highway.py --output {datasets}/highway_study
  track_signs:
    base: configs/real/track_signs.yaml     # in place of the study's base
    seeds: [3, 4]                           # in place of the study's
    rows: [cross_entropy, both]             # of the study's rows, those that this data set has
rows:
  cross_entropy: {config: configs/ablations/cross_entropy.yaml}
  focusing: {set: {MODEL.REG.*.GAMMA: 1.0}}
  both: {from: focusing, set: {...}, versus: focusing}
  calibrated: {evaluate_of: cross_entropy, set: {...}}
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.catalog import REPOSITORY, dataset_root
from ..data.strict_yaml import read_yaml
from .options import PROGRAM, to_options

STUDY_KEYS = (
    *("description", "base", "set", "base_row", "also_versus"),
    *("seeds", "datasets", "rows", "program", "paper_tables"),
)
DATASET_KEYS = ("base", "set", "make", "seeds", "rows")
ROW_KEYS = ("config", "set", "from", "evaluate_of", "versus", "label")
GIVEN_BY_THE_STUDY = {"SEED": "use the study's seeds", "OUTPUT_DIR": "use --output"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*")


class StudyError(ValueError):
    """A study file says something that cannot be meant; the message names the file, the culprit and what is valid."""


@dataclass(frozen=True)
class Row:
    """One config of a study.

    Attributes:
        name, label: as in file names, and as in tables.
        options: config options on top of the data set's, in order.
        parent: the row that this one was made ``from``, or None.
        evaluate_of: the row whose checkpoints are evaluated under these options, in place of a training; or None.
        versus: the row that this one is compared with.
    """

    name: str
    label: str
    options: Mapping[str, str]
    parent: str | None
    evaluate_of: str | None
    versus: str


@dataclass(frozen=True)
class Dataset:
    """One data set of a study.

    Attributes:
        base, options: the path of a config, and options on top of it.
        seeds, rows: those that are wanted on it; names of rows in the order of the study.
        make: the command that makes the data, () where they are just there.
    """

    name: str
    base: str
    options: Mapping[str, str]
    seeds: tuple[int, ...]
    rows: tuple[str, ...]
    make: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A checked study; ``rows`` and ``datasets`` by name, in the order of the file.

    ``also_versus`` is a second row that all are compared with, or None.
    ``program`` is a path here; ``program_name`` the same on every machine: from the repository, or as it is written.
    """

    name: str
    path: Path
    description: str
    base_row: str
    datasets: Mapping[str, Dataset]
    rows: Mapping[str, Row]
    program: str = PROGRAM
    program_name: str = PROGRAM
    paper_tables: bool = False
    also_versus: str | None = None


def load_study(path: str | os.PathLike) -> Study:
    """Read and check a study; its name is the file's.

    Raises:
        FileNotFoundError: there is no such file.
        StudyError: unknown keys, files that do not exist, a name or a label twice, rows that refer to no row, no
            base row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"study {path} does not exist; the ready ones are under configs/studies")
    try:
        return _Reader(path).study(_read_yaml(path, path))
    except RecursionError:
        raise StudyError(f"{path}: a mapping holds itself, by a YAML alias (*name)") from None


def find_file(path: str, study: Path, what: str) -> str:
    """A path of a study: from the working directory, the repository, or the study's folder; the first that exists.

    Args:
        what: the key that has it, for the message.

    Raises:
        StudyError: none does.
    """
    candidates = (Path(path), REPOSITORY / path, study.parent / path)
    found = next((p for p in candidates if p.is_file()), None)
    if found is None:
        raise StudyError(f"{study}: {what}: {path} does not exist; tried {', '.join(map(str, candidates))}")
    return str(found)


def _read_yaml(path: Path, study: Path) -> Any:
    """
    Raises:
        StudyError: broken YAML; it names the study, and the file where that is another one.
    """
    try:
        return read_yaml(path)
    except ValueError as error:
        where = study if path == study else f"{study}: {path}"
        raise StudyError(f"{where}: {error}") from None


class _Reader:
    """From YAML content to a Study; every error names the file."""

    def __init__(self, path: Path):
        self.path = path

    def study(self, content: Any) -> Study:
        content = self._mapping(content, "the study", STUDY_KEYS, needed=("base_row", "seeds", "datasets", "rows"))
        shared = self._set(content.get("set"), "set")
        datasets = self._named(content["datasets"], "datasets")
        given = self._named(content["rows"], "rows")
        given = {name: self._mapping(value, f"row {name!r}", ROW_KEYS) for name, value in given.items()}
        self._one_of(content["base_row"], given, "base_row")
        if (also_versus := content.get("also_versus")) is not None:
            self._one_of(also_versus, given, "also_versus")
        rows = {name: self._row(name, given, content["base_row"]) for name in given}
        self._different_labels(rows.values())
        written = content.get("program", PROGRAM)
        program = self._file(written, "program")
        inside = Path(program).resolve().is_relative_to(REPOSITORY)
        return Study(
            name=self.path.stem,
            path=self.path,
            description=self._text(content.get("description"), "description"),
            base_row=content["base_row"],
            datasets={n: self._dataset(n, v, content, shared, rows) for n, v in datasets.items()},
            rows=rows,
            program=program,
            program_name=Path(program).resolve().relative_to(REPOSITORY).as_posix() if inside else written,
            paper_tables=self._flag(content.get("paper_tables", False), "paper_tables"),
            also_versus=also_versus,
        )

    def _dataset(
        self, name: str, value: Any, study: Mapping[str, Any], shared: Mapping[str, str], rows: Mapping[str, Row]
    ) -> Dataset:
        value = self._mapping(value, f"data set {name!r}", DATASET_KEYS)
        base = value.get("base", study.get("base"))
        if base is None:
            self._fail(f"data set {name!r} has no base config: give it one, or the study")
        options = {**shared, **self._set(value.get("set"), f"set of data set {name!r}")}
        base = self._file(base, "base" if "base" not in value else f"base of data set {name!r}")
        seeds = self._seeds(study["seeds"], "seeds")
        if "seeds" in value:
            seeds = self._seeds(value["seeds"], f"seeds of data set {name!r}")
        chosen = self._rows_of(name, value["rows"], rows) if "rows" in value else tuple(rows)
        make = self._make(value.get("make"), f"make of data set {name!r}")
        return Dataset(name, base, options, seeds, chosen, make)

    def _rows_of(self, name: str, value: Any, rows: Mapping[str, Row]) -> tuple[str, ...]:
        what = f"rows of data set {name!r}"
        if not isinstance(value, list) or not value:
            self._fail(f"{what} is {value!r}; expected a list of the study's rows")
        for row in value:
            self._one_of(row, rows, f"one of the {what}")
            source = rows[row].evaluate_of
            if source is not None and source not in value:
                self._fail(f"{what} have {row!r} without {source!r}, whose checkpoints it evaluates")
        return tuple(row for row in rows if row in value)

    def _make(self, value: Any, what: str) -> tuple[str, ...]:
        try:
            program, *arguments = shlex.split(self._text(value, what)) or [""]
        except ValueError as error:
            self._fail(f"{what} is {value!r}: {str(error).lower()}")
        if not program:
            return ()
        return (self._file(program, what), *(x.replace("{datasets}", str(dataset_root())) for x in arguments))

    def _row(self, name: str, given: Mapping[str, Mapping], base_row: str) -> Row:
        value = given[name]
        for key in ("from", "evaluate_of", "versus"):
            if key in value:
                self._one_of(value[key], given, f"{key} of row {name!r}")
        if "from" in value and "evaluate_of" in value:
            self._fail(f"row {name!r} has both from and evaluate_of; the second takes the other row's options, too")
        source = value.get("evaluate_of")
        if source == name:
            self._fail(f"row {name!r} evaluates itself: evaluate_of names a row that is trained")
        if source is not None and "evaluate_of" in given[source]:
            self._fail(
                f"row {name!r} evaluates {source!r}, which trains nothing: name {given[source]['evaluate_of']!r}"
            )
        return Row(
            name,
            self._text(value.get("label"), f"label of row {name!r}") or name.replace("_", " "),
            self._options(name, given, ()),
            value.get("from"),
            source,
            value.get("versus", base_row),
        )

    def _different_labels(self, rows: Collection[Row]) -> None:
        names: dict[str, str] = {}
        for row in rows:
            if row.label in names:
                self._fail(f"rows {names[row.label]!r} and {row.name!r} have the same label {row.label!r}")
            names[row.label] = row.name

    def _options(self, name: str, given: Mapping[str, Mapping], below: tuple[str, ...]) -> dict[str, str]:
        """Those of the row that it builds on, then its files', then its own."""
        if name in below:
            self._fail(f"rows build on one another in a circle: {' <- '.join((*below, name))}")
        value = given[name]
        parent = value.get("from", value.get("evaluate_of"))
        options = {} if parent is None else self._options(parent, given, (*below, name))
        files = value.get("config") or []
        for file in files if isinstance(files, list) else [files]:
            content = _read_yaml(Path(self._file(file, f"config of row {name!r}")), self.path)
            options |= self._settings(content, file)
        return options | self._set(value.get("set"), f"set of row {name!r}")

    def _seeds(self, value: Any, what: str) -> tuple[int, ...]:
        good = isinstance(value, list) and value and all(type(s) is int and s >= 0 for s in value)
        if not good or len(set(value)) != len(value):
            self._fail(f"{what} is {value!r}; expected a list of different whole numbers from 0 up, such as [0, 1, 2]")
        return tuple(value)

    def _file(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or not value:
            self._fail(f"{what} is {value!r}; expected the path of a file")
        return find_file(value, self.path, what)

    def _text(self, value: Any, what: str) -> str:
        """Empty where nothing is given; a number is as good as text."""
        if not isinstance(value, str | int | float | None):
            self._fail(f"{what} is {value!r}; expected text")
        return "" if value is None else str(value).strip()

    def _flag(self, value: Any, what: str) -> bool:
        if not isinstance(value, bool):
            self._fail(f"{what} is {value!r}; expected true or false")
        return value

    def _named(self, value: Any, what: str) -> dict[str, Any]:
        """A mapping with at least one entry whose names can be names of files."""
        if not isinstance(value, dict) or not value:
            self._fail(f"{what} is {value!r}; expected at least one name with its settings")
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                self._fail(f"{what}: {name!r} is no name; expected letters, digits, and any of _ . +")
        return {name: {} if v is None else v for name, v in value.items()}

    def _settings(self, value: Any, what: str) -> dict[str, str]:
        """As config options."""
        if not isinstance(value or {}, dict):
            self._fail(f"{what} is {value!r}; expected config keys with their values")
        try:
            options = to_options(value or {})
        except ValueError as error:
            self._fail(f"{what}: {error}")
        return options

    def _set(self, value: Any, what: str) -> dict[str, str]:
        """The options of a ``set``; a file's seed and folder, for when it is used alone, give way without a word."""
        options = self._settings(value, what)
        if "_BASE_" in (value or {}):
            self._fail(f"{what} has _BASE_, which only a config file can have: use base, from, or config")
        for key, instead in GIVEN_BY_THE_STUDY.items():
            if key in options:
                self._fail(f"{what} has {key}, which is each run's own: {instead}")
        return options

    def _mapping(self, value: Any, what: str, keys: Collection[str], needed: Collection[str] = ()) -> dict:
        """A mapping with some of the keys; what is left empty is not there."""
        if not isinstance(value, dict):
            self._fail(f"{what} is {value!r}; expected some of the keys {', '.join(keys)}")
        for key in value:
            self._one_of(key, keys, f"key of {what}")
        given = {key: x for key, x in value.items() if x is not None}
        for key in needed:
            if key not in given:
                self._fail(f"{what} has no {key!r}; it needs {', '.join(needed)}")
        return given

    def _one_of(self, name: Any, valid: Collection[str], what: str) -> None:
        if not isinstance(name, str) or name not in valid:
            near = difflib.get_close_matches(str(name), valid, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            self._fail(f"{what} is {name!r}.{hint} Valid: {', '.join(valid)}")

    def _fail(self, message: str):
        raise StudyError(f"{self.path}: {message}")
