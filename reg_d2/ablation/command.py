"""What `tools/ablate.py` does, step by step."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.catalog import dataset_root
from ..engine.launch import STOPPED
from ..engine.setup import load_config
from .comparison import load_comparisons
from .data import make_command
from .execution import FINISHED, Settings, begun_otherwise, forget, record_failure
from .local import LocalRunner
from .locks import RunLock, is_locked
from .page import write_tables
from .process import Child, StopRequest, environment, stop_requests, wait_for
from .progress import MAY_BE_QUEUED, StudyView, failure_text, study_table
from .results import changes, describe, find_equal, read_result, read_results, store
from .runner import ELSEWHERE_SECONDS
from .runs import Run, all_runs, select, state_of
from .slurm import SlurmRunner, runs_in_queue
from .slurm_parameters import make_executor, workers_of
from .study import Dataset, StudyError, load_study

DONE, INCOMPLETE = 0, 1
MAKE_LOG = "data.txt"


class StudyCommand:
    """A study and the part of it that was asked for; each method returns an exit status."""

    def __init__(
        self,
        study: str,
        *,
        results: Path,
        output: Path,
        chosen: Mapping[str, Collection | None],
        console: Console | None = None,
    ):
        """
        Args:
            study: its file.
            results, output: folders for numbers, and for checkpoints and logs.
            chosen: ``dataset``, ``row``, ``seed`` -> those wanted, None for all.
            console: standard output by default.
        """
        self.study = load_study(study)
        self.results, self.output = results, output
        self.runs = all_runs(self.study, output, results)
        self.chosen = select(self.runs, **chosen)
        self.console = console or Console()

    def status(self) -> int:
        """Show every run's state, why runs failed, and what was made under another config or with other data."""
        states = {run: state_of(run) for run in self.chosen}
        states |= dict.fromkeys(runs_in_queue([run for run in states if states[run] in MAY_BE_QUEUED]), "queued")
        self.console.print(study_table(self.chosen, states))
        for run, state in states.items():
            if state == "failed":
                self._say(failure_text(run))
        self._report_changed(self._say)
        return DONE if set(states.values()) == {"done"} else INCOMPLETE

    def tables(self) -> int:
        """Write tables and figures from the results alone."""
        files = write_tables(self.study, load_comparisons(self.study, self.runs), self.results)
        for file in files:
            self._say(str(file))
        if not files:
            self._say(f"{self.study.name} has no results in {self.results}")
        return DONE if files else INCOMPLETE

    def dry_run(
        self, *, workers: int, rerun: Sequence[str], rerun_changed: bool, slurm: Mapping[str, Any] | None
    ) -> int:
        """Print the commands that make the data, and those of the runs that are to be done; the rest as comments.

        Args:
            workers, rerun, rerun_changed, slurm: as of ``run``.
        """
        workers, again = workers_of(slurm, workers), self._again(rerun)
        anew = {*again, *(self._replaceable() if rerun_changed else ())}
        todo = [run for run in self.chosen if run in anew or state_of(run) not in FINISHED]
        for name in dict.fromkeys(run.dataset for run in todo):
            if command := make_command(self.study.datasets[name]):
                self._say(shlex.join(command))
        if slurm is not None and todo:
            self._comment(f"each run is a job: {' '.join(f'{key}={value}' for key, value in slurm.items())}")
        equals = self._equals(todo, workers, again)
        self._report_unknown_data(todo, self._comment)
        queued = runs_in_queue(todo)
        for run in todo:
            if is_locked(run.lock):
                self._comment(f"{run.name} is in progress")
            elif run in queued:
                self._comment(f"{run.name} is in the queue of the cluster")
            elif run in equals:
                self._comment(f"{run.name} is the same run as {equals[run][0]}: its numbers would be taken")
            else:
                fresh = run in anew or begun_otherwise(run, run.data, workers)
                self._say(shlex.join(run.command(workers, fresh=fresh)))
        if not rerun_changed:
            self._report_changed(self._comment)
        return DONE

    def run(
        self,
        *,
        jobs: int | None,
        workers: int,
        keep: str,
        rerun: Sequence[str],
        rerun_changed: bool,
        slurm: Mapping[str, Any] | None,
        cluster: str,
    ) -> int:
        """Make the data, do what is to be done, and write the tables.

        Args:
            jobs: runs side by side; None: one, or on a cluster all.
            workers, keep: as of ``Settings``.
            rerun: rows whose results are dropped first, with those of what evaluates their checkpoints.
            rerun_changed: drop results of another config or other data first.
            slurm: submitit's parameters; None: on this machine.
            cluster: submitit's name of the cluster.
        """
        workers = workers_of(slurm, workers)
        again = self._again(rerun)
        self._check_writable()
        if slurm is not None:
            logs = self.output / self.study.name / "slurm"
            executor = make_executor(slurm, workers=workers, logs=logs, cluster=cluster)
        forget([*again, *(self._replaceable() if rerun_changed else ())])
        with stop_requests() as stop:
            good = self._make_data(stop)
            # Made anew, the data may differ from those of the results.
            forget(self._replaceable() if rerun_changed else ())
            self._report_changed(self._say)
            todo = [run for run in self.chosen if run.dataset in good and state_of(run) not in FINISHED]
            equals = self._equals(todo, workers, again)
            for run, (path, content) in equals.items():
                store(run.result, content)
                self._say(f"{run.name} is the same run as {path}: its numbers are taken")
            todo = [run for run in todo if run not in equals]
            self._report_unknown_data(todo, self._say)
            settings = Settings(
                workers=workers,
                jobs=jobs or (1 if slurm is None else max(1, len(todo))),
                keep=keep,
                sources={run.source.row for run in self.runs if run.source is not None},
            )
            with StudyView(self.chosen, self.console) as view:
                parts = (todo, settings, stop, view.changed, view.tick)
                runner = LocalRunner(*parts) if slurm is None else SlurmRunner(*parts, executor=executor)
                runner.run()
        self.tables()
        if slurm is not None and runner.left:
            self._say(
                f"left to the cluster: jobs {' '.join(runner.left)}; to cancel them: scancel {' '.join(runner.left)}"
            )
        if stop:
            self._say(f"stopped; the same command {'without --rerun ' if rerun else ''}goes on")
            return STOPPED
        return DONE if all(state_of(run) == "done" for run in self.chosen) else INCOMPLETE

    def _again(self, rerun: Sequence[str]) -> list[Run]:
        """The runs of some rows, and those that evaluate their checkpoints; these are chosen with them."""
        rows, chosen = dict.fromkeys(run.row for run in self.chosen), set(self.chosen)
        for row in rerun:
            if row not in self.study.rows:
                raise StudyError(f"--rerun {row}: the study's rows are {', '.join(self.study.rows)}")
            if row not in rows:
                raise StudyError(f"--rerun {row}: not among the chosen; add it: --rows {' '.join([*rows, row])}")
        again = {run for run in chosen if run.row in rerun}
        again |= {run for run in self.runs if run.source in again and (run in chosen or state_of(run) in FINISHED)}
        self.chosen = [run for run in self.runs if run in again | chosen]
        return [run for run in self.chosen if run in again]

    def _changed(self) -> list[Run]:
        return [run for run in self.chosen if state_of(run) == "changed"]

    def _replaceable(self) -> list[Run]:
        """Of those, the ones that can be done again: not what evaluates a checkpoint that has changed and stays."""
        changed = self._changed()
        return [
            run for run in changed if run.source is None or run.source in changed or state_of(run.source) != "changed"
        ]

    def _equals(
        self, runs: Sequence[Run], workers: int, again: Collection[Run]
    ) -> dict[Run, tuple[Path, dict[str, Any]]]:
        """Of the runs, those that another study, or another row, has done already, with its file and its numbers.

        One whose checkpoint is still to be evaluated is left out, and what was asked for again: numbers bring no
        checkpoint, and who asks for a training wants one.
        """
        stored, broken = read_results(self.results)
        for message in broken:
            self._comment(message)
        found = {run: find_equal(self.results, stored, run, workers) for run in runs if run not in again}
        needed = {run.source for run in runs if found.get(run) is None}
        return {run: equal for run, equal in found.items() if equal is not None and run not in needed}

    def _make_data(self, stop: StopRequest) -> list[str]:
        """The data sets whose data are there; runs of the others are recorded as failed."""
        good = []
        for name in dict.fromkeys(run.dataset for run in self.chosen):
            runs = [run for run in self.chosen if run.dataset == name and state_of(run) not in FINISHED]
            if not runs or self._make(self.study.datasets[name], runs, stop):
                good.append(name)
        return good

    def _make(self, dataset: Dataset, runs: Sequence[Run], stop: StopRequest) -> bool:
        command = make_command(dataset)
        if not command or stop:
            return not stop
        folder = self.output / self.study.name / dataset.name
        lock = RunLock(self._data_lock(command))
        while not lock.acquire():
            if stop.wait(ELSEWHERE_SECONDS):
                return False
        try:
            self._say(f"data of {dataset.name}: {shlex.join(dataset.make)}")
            child = Child(command, folder / MAKE_LOG, environment(), keep_open=[lock.fd])
            status = wait_for(child, stop)
        finally:
            lock.release()
        if status != 0 and not stop:
            why = f"its data could not be made: exit status {status}"
            for run in runs:
                record_failure(run, why, child.tail(), folder / MAKE_LOG)
            self._say(failure_text(runs[0]))
        return status == 0

    def _data_lock(self, command: Sequence[str]) -> Path:
        """One for all studies that make the same data: where these are, or, as these must not be written, beside us."""
        name = f".{hashlib.sha256(shlex.join(command[1:]).encode()).hexdigest()[:12]}.lock"
        root = dataset_root()
        return (self.output if root.is_dir() and not os.access(root, os.W_OK) else root) / name

    def _check_writable(self) -> None:
        """Before anything is trained, not when its numbers are to be written.

        Raises:
            OSError: the folder of the results cannot be made, or written to.
        """
        folder = self.results / self.study.name
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder}, where numbers go, cannot be written to: name another with --results")

    def _report_unknown_data(self, runs: Sequence[Run], say: Callable[[str], None]) -> None:
        for run in {run.dataset: run for run in runs if not run.data_files}.values():
            catalog = load_config(run.config_file, [x for pair in run.options for x in pair]).DATASETS.CATALOG
            say(
                f"{run.dataset}: there is no catalogue {catalog} (DATASETS.CATALOG) below {Path.cwd()} or the "
                "repository: whether its data are there is not known"
            )

    def _report_changed(self, say: Callable[[str], None]) -> None:
        changed = self._changed()
        for run in changed:
            say(f"{run.name} was made {describe(changes(read_result(run.result), run))}")
        if changed:
            say(
                f"{len(changed)} results are kept and not used; --rerun-changed replaces them. To keep both, give the "
                "study or the row another name"
            )

    def _comment(self, text: str) -> None:
        self._say("# " + text)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
