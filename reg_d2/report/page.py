"""Putting a report together: sections of tables, figures and pictures, set by the template."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ..evaluation.ground_truth import mask_of
from ..evaluation.results import replace_text
from . import bars, curves, tables
from .findings import findings
from .gallery import galleries
from .pictures import illustrate
from .provenance import config_difference, data_statistics, ratio_text, training_curves, training_weights, versions
from .run import Run
from .style import Picture
from .tables import Cell, Table, number

TEMPLATE = "report.html.j2"
TASKS = {"bbox": "Boxes", "segm": "Masks"}


@dataclass
class Block:
    """Part of a section under a heading: figures, then tables; ``folded`` tables open on a click."""

    title: str = ""
    text: str = ""
    figures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    folded: dict[str, list[Table]] = field(default_factory=dict)


@dataclass
class Section:
    """``key``: anchor; ``title``: also in the navigation."""

    key: str
    title: str
    text: str
    blocks: list[Block]


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
        sections=[s for s in _sections(runs, train_counts) if s.blocks],
        galleries=shown,
        galleries_note=note,
        class_names=[c["name"] for c in runs[0].evaluation.truth["categories"]],
        versions=versions(),
    )


def breakable(text: str) -> Markup:
    """A name that a narrow column may break after "_", "." and "/"."""
    return Markup(re.sub(r"([_./])", r"\1<wbr>", str(escape(text))))


def _sections(runs: Sequence[Run], train_counts: Mapping[str, int] | None) -> list[Section]:
    return [
        Section("tables", "Tables", "", _paper_blocks(runs)),
        Section("classes", "Classes", "", _by_task(runs, _class_block)),
        Section("curves", "Curves", "", _by_task(runs, _curve_block)),
        Section("groups", "Sizes and frequency", "", _by_task(runs, _group_block)),
        Section(
            "errors",
            "Errors",
            "Each wrong detection and each miss is sorted into one type; its cost is the AP50 that mending all of that "
            "type alone would add (TIDE, Bolya et al. 2020).",
            _by_task(runs, _error_block),
        ),
        Section("calibration", "Calibration", "", _by_task(runs, _calibration_block)),
        Section("training", "Training", "", _training_blocks(runs)),
        Section("data", "Data and setup", "", _setup_blocks(runs, train_counts)),
    ]


def _by_task(runs: Sequence[Run], block) -> list[Block]:
    blocks = []
    for task, title in TASKS.items():
        having = [run for run in runs if run.results.get(task, {}).get("per_class")]
        if having:
            made = block(having, task)
            made.title = title
            blocks.append(made)
    return blocks


def _paper_blocks(runs: Sequence[Run]) -> list[Block]:
    tasks = [task for task in tables.PAPER_TABLES if any(run.results.get(task) for run in runs)]
    if not tasks:
        return []
    having = {task: [run for run in runs if run.results.get(task)] for task in tasks}
    text = "In percent; AP is the mean over IoU 0.50 to 0.95. "
    if runs[0].intervals:
        text += "Small: 95% intervals from a bootstrap over images. "
    if len(runs) > 1 and runs[0].intervals:
        text += "Differences are coloured only where their interval excludes 0."
    other = [tables.ultralytics_table(having[task], task) for task in tasks]
    summary = f"The same tables by the {tables.ULTRALYTICS} convention"
    return [Block("", text, tables=[tables.paper_table(having[task], task) for task in tasks], folded={summary: other})]


def _class_block(runs: Sequence[Run], task: str) -> Block:
    folded = {"Every class at every size": [tables.class_size_table(run, task) for run in runs]}
    shown = [tables.class_table(run, task) for run in runs]
    shown += [tables.class_differences(r, runs[0], task) for r in runs[1:] if r.differences and task in r.differences]
    return Block(
        figures=[bars.class_bars(runs, task, metric) for metric in ("AP", "AP50")], tables=shown, folded=folded
    )


def _curve_block(runs: Sequence[Run], task: str) -> Block:
    return Block(figures=[curves.precision_recall(runs, task), curves.f1_confidence(runs, task)])


def _group_block(runs: Sequence[Run], task: str) -> Block:
    keys = {"by_size": "By size of the object", "by_frequency": "By frequency of the class in training"}
    keys = {key: title for key, title in keys.items() if all(run.results[task].get(key) for run in runs)}
    return Block(
        figures=[bars.group_bars(runs, task, key, title) for key, title in keys.items()],
        tables=[tables.group_table(runs, task, key)._replace(title=title) for key, title in keys.items()],
    )


def _error_block(runs: Sequence[Run], task: str) -> Block:
    return Block(
        figures=[bars.error_bars(runs, task), *(bars.confusion(run, task) for run in runs)],
        tables=[tables.error_table(runs, task, bars.ERROR_LABELS)],
    )


def _calibration_block(runs: Sequence[Run], task: str) -> Block:
    figures = [curves.reliability(run, task) for run in runs]
    figures += [f for run in runs if (f := curves.error_over_std(run, task)) is not None]
    if task == "segm":
        return Block(
            figures=figures,
            tables=[tables.calibration_table(runs, task), tables.boundary_table(runs)._replace(title="Boundaries")],
        )
    return Block(figures=figures, tables=[tables.calibration_table(runs, task)])


def _training_blocks(runs: Sequence[Run]) -> list[Block]:
    blocks = []
    for run in runs:
        groups = training_curves(run.metrics_file)
        if groups:
            figures = [curves.training(title, series, run.name) for title, series in groups.items()]
            blocks.append(Block(run.name if len(runs) > 1 else "", figures=figures))
    return blocks


def _setup_blocks(runs: Sequence[Run], train_counts: Mapping[str, int] | None) -> list[Block]:
    blocks = [Block("Data", tables=[_data_table(runs, train_counts)])]
    if any(run.config is not None for run in runs):
        base, rows = config_difference({run.name: run.config for run in runs})
        head = ["key", base, *(run.name for run in runs)]
        cells = [[Cell(value) for value in row] for row in rows]
        note = "Keys that no run has changed are left out."
        blocks.append(Block("Configuration", tables=[Table("Difference from the base", head, cells, note, words=True)]))
    rows = [[Cell(run.name), Cell(run.source), Cell(number(len(run.evaluation.detections)))] for run in runs]
    blocks.append(Block("Runs", tables=[Table("", ["run", "source", "detections"], rows, words=True)]))
    rows = [[Cell(name), Cell(version)] for name, version in versions().items()]
    blocks.append(Block("Versions", tables=[Table("", ["software", "version"], rows, words=True)]))
    return blocks


def _data_table(runs: Sequence[Run], train_counts: Mapping[str, int] | None) -> Table:
    truth = runs[0].evaluation.truth
    found = data_statistics(truth, {i for i, a in enumerate(truth["annotations"]) if mask_of(a)})
    config = next((run.config for run in runs if run.config is not None), None)
    weights = training_weights(config, train_counts)
    total = sum(train_counts.values()) if train_counts else 0
    head, rows = ["class", "objects", "with mask"], []
    if train_counts:
        head += ["in training", "share", *weights]
    for name, count in found["objects"].items():
        cells = [Cell(name), Cell(number(count)), Cell(number(found["masks"][name]))]
        if train_counts:
            of_class = train_counts.get(name, 0)
            share = Cell(f"{100 * of_class / total:.1f}%" if total else "n/a")
            cells += [Cell(number(of_class)), share, *(Cell(number(w.get(name), 3)) for w in weights.values())]
        rows.append(cells)
    note = f"{number(found['images'])} images, {number(found['empty'])} of them without objects; "
    note += f"{number(found['crowd'])} crowd regions. Imbalance ratio: evaluated {found['ratio']}"
    if train_counts:
        note += f", training {ratio_text(list(train_counts.values()))}"
    return Table("", head, rows, note + ".")


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
