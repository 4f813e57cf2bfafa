"""Putting a report together: the numbers at the top, sections, and pictures, set by the template."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ..evaluation.results import replace_text
from .findings import findings
from .gallery import galleries
from .pictures import illustrate
from .provenance import versions
from .run import Run
from .sections import sections
from .tables import number

TEMPLATE = "report.html.j2"


def write_report(path: str | os.PathLike, runs: Sequence[Run], **options) -> None:
    """Write ``render_report`` to a file, all or nothing."""
    replace_text(path, render_report(runs, **options))


def render_report(
    runs: Sequence[Run],
    *,
    dataset: str,
    image_root: str | os.PathLike | None = None,
    train_counts: Mapping[str, int] | None = None,
    title: str | None = None,
) -> str:
    """The page of one run, or of several side by side.

    ``runs``: of ``analyse``, all on the same ground truth; differences are to the first. ``dataset``: its name.
    ``image_root``: folder of its images; None: no pictures. ``train_counts``: class name -> objects in training.
    Returns HTML that needs no other file and no network, below 15 MB.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    shown, note = illustrate(galleries(runs), runs, None if image_root is None else Path(image_root))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reg_d2.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(TEMPLATE).render(
        title=title or " and ".join([run.name for run in runs][:3]) + f" on {dataset}",
        dataset=dataset,
        runs=runs,
        date=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        cards=_cards(runs),
        findings=findings(runs),
        sections=[s for s in sections(runs, train_counts) if s.blocks],
        galleries=shown,
        galleries_note=note,
        class_names=[c["name"] for c in runs[0].evaluation.truth["categories"]],
        versions=versions(),
    )


def breakable(text: str) -> Markup:
    """A name that a narrow column may break after "_", "." and "/"."""
    return Markup(re.sub(r"([_./])", r"\1<wbr>", str(escape(text))))


def _cards(runs: Sequence[Run]) -> list[dict]:
    """The numbers at the top: one card for each task and metric, a line for each run."""
    result = []
    for task, metric, label in (
        ("bbox", "AP50", "Boxes, AP50"),
        ("bbox", "f1", "Boxes, F1"),
        ("segm", "AP50", "Masks, AP50"),
        ("segm", "f1", "Masks, F1"),
    ):
        lines = []
        for run in runs:
            if not run.results.get(task, {}).get("per_class"):
                continue
            interval = run.intervals[task][metric] if run.intervals else {"low": None}
            note = "" if interval["low"] is None else f"{interval['low']:.1f} to {interval['high']:.1f}"
            lines.append({"name": run.name, "value": number(run.results[task][metric], 1), "note": note})
        if lines:
            result.append({"label": label, "lines": lines})
    return result
