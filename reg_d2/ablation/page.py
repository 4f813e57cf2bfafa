"""What a study leaves behind: its tables and figures as files, and its part of a page that people write."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ..evaluation.results import replace_text
from .comparison import Comparison, load_comparisons
from .figure import to_svg
from .runs import all_runs
from .study import Study, find_file, load_study
from .tables import markdown, to_csv

# <!-- study: configs/studies/components.yaml --> ... <!-- end of study -->
START, END = re.compile(r"<!-- study: (.+?) -->[ \t]*\n"), "<!-- end of study -->"
BLOCK = re.compile(rf"({START.pattern})(.*?)({END})", re.DOTALL)
NOT_RUN = "This study has not been run.\n"


def write_tables(study: Study, comparisons: Sequence[Comparison], results: Path) -> list[Path]:
    """``table.md``, ``table.csv`` and a figure a data set, in ``<results>/<study>``; the files, [] without results."""
    if not comparisons:
        return []
    folder = results / study.name
    files = {folder / f"{c.dataset}.svg": to_svg(c) for c in comparisons if c.rows}
    files[folder / "table.md"] = f"# {study.name}\n\n{_text(study, comparisons, '')}"
    files[folder / "table.csv"] = to_csv(comparisons)
    for path, text in files.items():
        replace_text(path, text)
    return list(files)


def update_page(page: Path, results: Path) -> list[str]:
    """Write anew what stands between the marks of each study in a Markdown page; the studies.

    A mark is ``<!-- study: FILE -->``, with ``<!-- end of study -->`` below. Figures and CSV files are written, too.

    Raises:
        ValueError: the page has no mark, or one without its end, or tables of a study that has no results now.
    """
    text = page.read_text(encoding="utf-8")
    studies = _studies_of(text, page, results)
    if not studies:
        raise ValueError(f"{page} has no line <!-- study: FILE --> with {END} below it")
    for mark in BLOCK.finditer(text):
        study, comparisons = studies[mark[2]]
        if not comparisons and mark[3].strip() not in ("", NOT_RUN.strip()):
            raise ValueError(
                f"{page} has tables of {mark[2]}, and {results / study.name} has no results: give their folder with "
                "--results, or empty that part of the page"
            )
    replace_text(page, _with_parts(text, page, results, studies))
    for study, comparisons in studies.values():
        write_tables(study, comparisons, results)
    return list(studies)


def render_page(text: str, page: Path, results: Path) -> str:
    """The page with each study's part as its results are now; nothing is written."""
    return _with_parts(text, page, results, _studies_of(text, page, results))


def _studies_of(text: str, page: Path, results: Path) -> dict[str, tuple[Study, list[Comparison]]]:
    """The studies that a page names, by the names of their files."""
    found = {}
    whole = {mark.start() for mark in BLOCK.finditer(text) if not START.search(mark[3])}
    for mark in START.finditer(text):
        if mark.start() not in whole:
            raise ValueError(f"{page}: {mark[0].strip()} has no {END} before the next study, or the end of the page")
    for file in dict.fromkeys(mark[2] for mark in BLOCK.finditer(text)):
        study = load_study(find_file(file, page, "study"))
        found[file] = study, load_comparisons(study, all_runs(study, "output", results))
    return found


def _with_parts(text: str, page: Path, results: Path, studies: Mapping[str, tuple[Study, list[Comparison]]]) -> str:
    def part(mark: re.Match) -> str:
        study, comparisons = studies[mark[2]]
        folder = os.path.relpath((results / study.name).resolve(), page.resolve().parent)
        prefix = quote(f"{folder}/")
        body = _text(study, comparisons, prefix, heading="###") if comparisons else NOT_RUN
        return f"{mark[1]}\n{body}\n{mark[4]}"

    return BLOCK.sub(part, text)


def _text(study: Study, comparisons: Sequence[Comparison], prefix: str, heading: str = "##") -> str:
    parts = [study.description] if study.description else []
    for comparison in comparisons:
        figure = f"{prefix}{comparison.dataset}.svg" if comparison.rows else None
        parts.append(markdown(comparison, heading=heading, figure=figure).strip())
    return "\n\n".join(parts) + "\n"
