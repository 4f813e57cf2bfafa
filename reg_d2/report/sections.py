"""The sections of a report: which figures and tables stand where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..evaluation.ground_truth import mask_of
from . import bars, curves, tables
from .provenance import config_difference, data_statistics, ratio_text, training_curves, training_weights, versions
from .run import Run
from .style import Picture
from .tables import Cell, Table, number

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


def sections(runs: Sequence[Run], train_counts: Mapping[str, int] | None) -> list[Section]:
    """In the order of the page; one without blocks has nothing to show. Arguments as of ``render_report``."""
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
