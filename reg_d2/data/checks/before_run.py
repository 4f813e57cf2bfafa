"""The check at the start of a run: the JSON of every data set and their splits; no picture is opened."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from detectron2.utils import comm

from ..catalog import CatalogEntry
from .findings import ERROR, WARNING, summary
from .run import check_file, check_splits

logger = logging.getLogger(__name__)


class UnusableDatasetError(ValueError):
    """Data that would ruin the run; the message says what, and with which command it is repaired."""


def check_before_run(entries: Sequence[CatalogEntry]) -> None:
    """Check the files on the main worker; warnings go to the log, errors stop every worker.

    Raises:
        UnusableDatasetError: there are errors.
        FileNotFoundError, UnusableFileError: there is nothing to check.
    """
    problem = None
    if comm.is_main_process():
        try:
            problem = _errors(entries)
        except (OSError, ValueError) as error:
            problem = error
    problem = comm.all_gather(problem)[0]
    if problem is not None:
        raise problem


def _errors(entries: Sequence[CatalogEntry]) -> UnusableDatasetError | None:
    entries = [source for entry in entries for source in entry.sources]
    checked = []
    for entry in entries:
        checked.append(check_file(entry.json, entry.name))
        checked[-1].folder = entry.images
    reports = [c.report for c in checked] + check_splits(checked)
    for report in reports:
        if warnings := report.of(WARNING):
            logger.warning(f"{report.name}:\n{summary(warnings)}")
    parts = []
    # Different classes are left to registering, which knows the model's.
    for entry, report in zip(entries, reports, strict=False):
        if errors := report.of(ERROR):
            parts.append(f"{report.name} would ruin the run:\n{summary(errors)}\n{repair_command(entry)}")
    return UnusableDatasetError("\n".join(parts)) if parts else None


def repair_command(entry: CatalogEntry) -> str:
    """The line that tells how a data set is repaired."""
    fixed = entry.json.with_name(f"{entry.json.stem}_fixed.json")
    command = shlex.join(["python", "tools/check_dataset.py", f"{entry.json}:{entry.images}", "--fix", str(fixed)])
    return f"to repair {entry.name}, write a copy and use that: {command}"
