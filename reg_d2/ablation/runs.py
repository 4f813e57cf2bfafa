"""The runs of a study: which there are, where each keeps its files, the command of each, and how far it is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..engine import load_config
from ..engine.checkpoint import FINAL
from .data import data_files, fingerprints
from .locks import is_locked
from .options import PROGRAM, check_options, config_hash, deciding, reference_workers
from .results import EVALUATE_OF, changes, config_changes, read_result
from .study import Study, StudyError

# How a run stands, in the order of a summary.
STATES = ("done", "running", "queued", "cut", "missing", "failed", "changed")
FAILURE_FILE = "failed.json"
# What the run in a folder was begun with.
BEGUN_FILE = "begun.json"


@dataclass(frozen=True)
class Run:
    """One training, or one evaluation of another run's checkpoint.

    Attributes:
        study, dataset, row, seed: which run it is.
        program, config_file, options: what is called; options as (key, value) pairs.
        config: what decides its numbers (``options.deciding``).
        max_iter: steps of its training.
        data_files: (name, COCO file) of its data sets.
        folder: its checkpoints and logs. The hash of the config that it was begun with is in the name, so that a cut
            run is never continued under another config.
        result: its numbers, as JSON.
        source: the run whose checkpoint it evaluates, or None.
    """

    study: str
    dataset: str
    row: str
    seed: int
    program: str
    config_file: str
    options: tuple[tuple[str, str], ...]
    config: Mapping[str, Any]
    max_iter: int
    data_files: tuple[tuple[str, Path], ...]
    folder: Path
    result: Path
    source: Run | None = None

    # A run is its place in the study: dict keys in `config` cannot be hashed.
    def __hash__(self):
        return hash((self.study, self.dataset, self.row, self.seed))

    @property
    def name(self) -> str:
        """``dataset/row-seed0``"""
        return f"{self.dataset}/{self.row}-seed{self.seed}"

    @property
    def data(self) -> dict[str, str]:
        """Fingerprints of its data as they are now, of those that are on this machine."""
        return fingerprints(self.data_files)

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def log(self) -> Path:
        """What the program printed."""
        return self.folder / "output.txt"

    @property
    def weights(self) -> Path:
        return self.folder / FINAL

    def command(self, workers: int = 1, *, fresh: bool = False) -> list[str]:
        """The command that trains, goes on, or evaluates.

        Args:
            workers: its GPUs, or processes on CPUs.
            fresh: begin anew where there are checkpoints.
        """
        start = [sys.executable, self.program, "--config-file", self.config_file]
        start += ["--num-gpus", str(workers)] if workers != 1 else []
        if self.source is not None:
            start += ["--eval-only"]
        elif not fresh:
            start += ["--resume"]
        options = [x for pair in self.options for x in pair]
        if self.source is not None:
            options += ["MODEL.WEIGHTS", str(self.source.weights)]
        return [*start, *options, "TEST.REPORT", "False", "OUTPUT_DIR", str(self.folder)]


def all_runs(study: Study, output: str | os.PathLike, results: str | os.PathLike) -> list[Run]:
    """Every run of a study: data set by data set, seed by seed, so that each row has its first seed early.

    Args:
        output: folder for checkpoints and logs: ``<output>/<study>/<dataset>/<row>-seed<k>-<hash>``.
        results: folder for the numbers: ``<results>/<study>/<dataset>/<row>-seed<k>.json``.

    Raises:
        StudyError: a row with a key that no config has, or a value of another type.
    """
    runs: dict[tuple[str, str, int], Run] = {}
    for dataset in study.datasets.values():
        resolved = {name: _resolve(study, dataset.name, name) for name in dataset.rows}
        # An evaluation comes after the run whose checkpoint it takes.
        ordered = sorted((study.rows[x] for x in dataset.rows), key=lambda row: row.evaluate_of is not None)
        for seed in dataset.seeds:
            for row in ordered:
                options, max_iter, files, config = resolved[row.name]
                config = {**config, "SEED": seed}
                if study.program_name != PROGRAM:
                    config["program"] = study.program_name
                if row.evaluate_of is not None:
                    config[EVALUATE_OF] = config_hash(runs[dataset.name, row.evaluate_of, seed].config)
                name = f"{row.name}-seed{seed}"
                run = Run(
                    study=study.name,
                    dataset=dataset.name,
                    row=row.name,
                    seed=seed,
                    program=study.program,
                    config_file=dataset.base,
                    options=(*options.items(), ("SEED", str(seed))),
                    config=config,
                    max_iter=max_iter,
                    data_files=files,
                    folder=Path(output) / study.name / dataset.name / f"{name}-{config_hash(config)}",
                    result=Path(results) / study.name / dataset.name / f"{name}.json",
                    source=runs.get((dataset.name, row.evaluate_of, seed)),
                )
                runs[dataset.name, row.name, seed] = replace(run, folder=_folder(run))
    return list(runs.values())


def _folder(run: Run) -> Path:
    """A run's folder; where there is none, that of the same run under another hash: the config has gained a key."""
    if not run.folder.is_dir():
        for folder in sorted(run.folder.parent.glob(f"{run.row}-seed{run.seed}-*")):
            begun = begun_with(folder)
            if "config" in begun and not config_changes(begun, run):
                return folder
    return run.folder


def _resolve(study: Study, dataset: str, row: str) -> tuple[dict[str, str], int, tuple, dict[str, Any]]:
    """Options, number of steps, files of the data, and what decides the numbers but the seed."""
    base = study.datasets[dataset].base
    options = {**study.datasets[dataset].options, **study.rows[row].options}
    try:
        cfg = _base_config(base, options.get("PROJECTS")).clone()
        check_options(cfg, options)
        cfg.merge_from_list([x for pair in options.items() for x in pair])
        files = data_files(cfg)
    # TypeError: a key below one that has a value.
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
        whole = isinstance(error, yaml.YAMLError | OSError)
        message = f"{base}: {error}" if whole else error.args[0] if error.args else error
        raise StudyError(f"{study.path}: row {row!r} on {dataset}, base {base}: {message}") from None
    if len(cfg.DATASETS.TEST) != 1:
        raise StudyError(f"{study.path}: {dataset}: DATASETS.TEST is {cfg.DATASETS.TEST}; expected one data set")
    return options, cfg.SOLVER.MAX_ITER, files, deciding(cfg)


@lru_cache
def _base_config(file: str, projects: str | None):
    """A data set's config before a row's options; read once, since YAML is slow. ``projects`` bring keys."""
    return load_config(file, [] if projects is None else ["PROJECTS", projects])


def select(runs: Collection[Run], **chosen: Collection | None) -> list[Run]:
    """The runs whose ``dataset``, ``row`` and ``seed`` are among those chosen (None: all).

    Raises:
        StudyError: a choice that the study does not have, or not together.
    """
    for key, values in chosen.items():
        known = dict.fromkeys(getattr(run, key) for run in runs)
        if unknown := [v for v in values or () if v not in known]:
            raise StudyError(f"the study has no {key} {unknown[0]!r}; it has {', '.join(map(str, known))}")
    found = [run for run in runs if all(v is None or getattr(run, k) in v for k, v in chosen.items())]
    if not found:
        wanted = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in chosen.items() if v is not None)
        raise StudyError(f"the study has no run with {wanted}: see the rows and seeds of its data sets")
    return found


def state_of(run: Run) -> str:
    """One of ``STATES`` but "queued", which only a cluster knows, from the run's files alone."""
    if (stored := read_result(run.result)) is not None:
        return "changed" if changes(stored, run) else "done"
    if is_locked(run.lock):
        return "running"
    if (run.folder / FAILURE_FILE).is_file():
        return "failed"
    return "cut" if (run.folder / "last_checkpoint").is_file() else "missing"


def progress_of(run: Run) -> float:
    """Share of the steps that are done, 0..1, from the training's last line of metrics."""
    try:
        with open(run.folder / "metrics.json", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        return min(1.0, (json.loads(lines[-1])["iteration"] + 1) / _steps(run))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0.0


def _steps(run: Run) -> int:
    """As Detectron2's ``auto_scale_workers`` has them for the workers that the run was begun with."""
    reference, workers = reference_workers(run.config), begun_with(run.folder).get("workers")
    return round(run.max_iter / (workers / reference)) if reference and workers else run.max_iter


def failure_of(run: Run) -> dict | None:
    """What is recorded of a failed run: ``status``, ``tail`` (last lines of its ``log``), ``time`` (Unix)."""
    return _read_record(run.folder / FAILURE_FILE)


def begun_with(folder: Path) -> dict:
    """What the run in a folder was begun with: ``data``, ``workers``, those of ``results.made_with``; {} if unknown."""
    return _read_record(folder / BEGUN_FILE) or {}


def _read_record(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
