"""The tables of a report: plain cells, which the template sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..evaluation.tables import CLASS_COLUMNS, COLUMNS, PAPER_TABLES
from .run import Run

ULTRALYTICS = "ultralytics-8.2"
RATES = {"AP": "AP", "AP50": "AP50", "P": "precision", "R": "recall", "F1": "f1"}
COUNTS = {"objects": "num_gt", "TP": "true_positives", "FP": "false_positives", "missed": "missed"}
SIZES = {"small": "small, below 32² px", "medium": "medium", "large": "large, above 96² px"}


class Cell(NamedTuple):
    """``note`` is set small below the text; ``mark``: "better" or "worse", only where an interval excludes 0."""

    text: str
    note: str = ""
    mark: str = ""


class Table(NamedTuple):
    """``rows`` of cells, the first a heading; ``rule``: index of the row before which a line is drawn; ``words``:
    cells are text, not numbers."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    note: str = ""
    rule: int | None = None
    words: bool = False


def number(value: float | int | None, digits: int = 2) -> str:
    """ "n/a" for None; whole numbers with thin spaces between thousands."""
    if value is None:
        return "n/a"
    return f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else f"{value:.{digits}f}"


def difference_mark(interval: Mapping) -> str:
    """ "better" or "worse" where the interval of a difference excludes 0, else ""."""
    if interval["low"] is None or interval["low"] <= 0 <= interval["high"]:
        return ""
    return "better" if interval["low"] > 0 else "worse"


def paper_table(runs: Sequence[Run], task: str) -> Table:
    """A table of the paper (E18): a row for each run with intervals, then the differences from the first run."""
    rows = []
    for run in runs:
        cells = []
        for key in COLUMNS.values():
            interval = run.intervals[task][key] if run.intervals else None
            cells.append(Cell(number(run.results[task][key]), _interval(interval)))
        rows.append([Cell(run.name), *cells])
    num = len(rows)
    for run in runs[1:]:
        label = Cell(f"{run.name} − {runs[0].name}")
        if run.differences and task in run.differences:
            rows.append([label, *(_difference(run.differences[task][key]) for key in COLUMNS.values())])
        else:
            pairs = [(runs[0].results[task][key], run.results[task][key]) for key in COLUMNS.values()]
            rows.append([label, *(Cell("n/a" if None in p else f"{p[1] - p[0]:+.2f}") for p in pairs)])
    confidences = ", ".join(f"{run.name} {number(run.results[task]['confidence'], 3)}" for run in runs)
    note = f"Precision, recall and F1 at the confidence where mean F1 is highest: {confidences}."
    return Table(PAPER_TABLES[task], ["REG", *COLUMNS], rows, note, num if len(rows) > num else None)


def ultralytics_table(runs: Sequence[Run], task: str) -> Table:
    """The same columns by the convention of the paper's evaluator."""
    rows = [
        [Cell(run.name), *(Cell(number(run.results[task][ULTRALYTICS][key])) for key in COLUMNS.values())]
        for run in runs
    ]
    return Table(PAPER_TABLES[task], ["REG", *COLUMNS], rows)


def class_table(run: Run, task: str) -> Table:
    """Every number of each class, and the mean."""
    values, rows = run.results[task], []
    for name, of_class in values["per_class"].items():
        intervals = run.intervals[task]["per_class"][name] if run.intervals else {}
        cells = [_class_cell(of_class, key, intervals.get(key)) for key in CLASS_COLUMNS.values()]
        rows.append([Cell(name), *cells])
    mean = values | {"best_f1": values["f1_mean_of_best"]}
    total = {k: sum(c[k] or 0 for c in values["per_class"].values()) for k in COUNTS.values()}
    cells = [
        _class_cell(mean | total, key, None) if key in mean | total else Cell("") for key in CLASS_COLUMNS.values()
    ]
    note = f"Precision, recall, F1 and counts at confidence {number(values['confidence'], 3)}, IoU 0.5."
    return Table(run.name, ["class", *CLASS_COLUMNS], [*rows, [Cell("mean or sum"), *cells]], note, len(rows))


def class_differences(run: Run, base: Run, task: str) -> Table:
    """Difference of each class from the first run, with intervals."""
    rows = [
        [Cell(name), *(_difference(values[key]) for key in COLUMNS.values())]
        for name, values in run.differences[task]["per_class"].items()
    ]
    return Table(f"{run.name} − {base.name}", ["class", *COLUMNS], rows)


def group_table(runs: Sequence[Run], task: str, key: str) -> Table:
    """Sizes, or head, middle and tail classes: rates and counts of each, run by run."""
    rows = []
    groups = runs[0].results[task][key]
    for group in groups:
        for run in runs:
            values = run.results[task][key][group]
            label = Cell(SIZES.get(group, group), run.name if len(runs) > 1 else "")
            cells = [Cell(number(values[k])) for k in (*RATES.values(), "f1_mean_of_best", *COUNTS.values())]
            rows.append([label, *cells])
    note = "; ".join(f"{g}: {', '.join(v['classes'])}" for g, v in groups.items() if v.get("classes"))
    first = "size" if key == "by_size" else "classes"
    return Table("", [first, *RATES, "mean best F1", *COUNTS], rows, note)


def class_size_table(run: Run, task: str) -> Table:
    """Each class at each size."""
    rows = [
        [
            Cell(name if size == "small" else ""),
            Cell(size),
            *(Cell(number(values[k])) for k in (*RATES.values(), "best_f1")),
            Cell(number(values["best_f1_confidence"], 3)),
            *(Cell(number(values[k])) for k in COUNTS.values()),
        ]
        for name, of_class in run.results[task]["per_class"].items()
        for size, values in of_class["by_size"].items()
    ]
    return Table(run.name, ["class", "size", *RATES, "best F1", "at conf.", *COUNTS], rows)


def error_table(runs: Sequence[Run], task: str, labels: Mapping[str, str]) -> Table:
    """Number of each type of error and the AP50 that it costs."""
    rows = []
    for kind, label in labels.items():
        found = [run.results[task]["errors"]["types"][kind] for run in runs]
        rows.append([Cell(label), *(c for f in found for c in (Cell(number(f["count"])), Cell(number(f["ap_cost"]))))])
    names = [""] if len(runs) == 1 else [f", {run.name}" for run in runs]
    return Table("", ["error", *(f"{text}{n}" for n in names for text in ("number", "AP50 cost"))], rows)


def calibration_table(runs: Sequence[Run], task: str) -> Table:
    """Detection ECE overall and per class, as scored and after each scaling."""
    columns: list[tuple[str, Mapping]] = []
    for run in runs:
        of = "" if len(runs) == 1 else f"{run.name}: "
        columns.append((f"{of}as scored", run.results[task]["calibration"]))
        columns += [(f"{of}{method}", values) for method, values in run.calibrated.get(task, {}).items()]
    rows = [[Cell("all classes"), *(Cell(number(values["ece"])) for _, values in columns)]]
    for name in runs[0].evaluation.tasks[task].names:
        rows.append([Cell(name), *(Cell(number(values["per_class"][name]["ece"])) for _, values in columns)])
    floor = runs[0].results[task]["calibration"]["score_floor"]
    note = f"Expected calibration error in percent, of detections with a score of {floor:g} or more; 0 is best."
    return Table("", ["ECE", *(title for title, _ in columns)], rows, note, 1)


def boundary_table(runs: Sequence[Run]) -> Table:
    """AP by boundary IoU beside AP by mask IoU, and the mean IoU of matched pairs."""
    rows = []
    for run in runs:
        values = run.results["segm"]["boundary"]
        per_class = run.results["segm"]["per_class"]
        entries = {
            "all classes": (values, run.results["segm"]),
            **{n: (v, per_class[n]) for n, v in values["per_class"].items()},
        }
        for name, (boundary, mask) in entries.items():
            label = name if len(runs) == 1 else f"{run.name}: {name}"
            given = (boundary["AP"], mask["AP"], boundary["AP50"], mask["AP50"], boundary["mean_iou"])
            given += (boundary["mask_mean_iou"], boundary["num_pairs"])
            rows.append([Cell(label), *(Cell(number(v)) for v in given)])
    head = ["", "boundary AP", "mask AP", "boundary AP50", "mask AP50", "mean boundary IoU", "mean mask IoU", "pairs"]
    return Table("", head, rows, "Mean IoU over the pairs that match at mask IoU 0.5.")


def _interval(values: Mapping | None) -> str:
    if not values or values["low"] is None:
        return ""
    return f"{values['low']:.1f} to {values['high']:.1f}"


def _difference(values: Mapping) -> Cell:
    if values["difference"] is None:
        return Cell("n/a")
    mark = difference_mark(values)
    note = f"{values['low']:+.1f} to {values['high']:+.1f}\np {values['p_value']:.3f}"
    return Cell(f"{values['difference']:+.2f}", note, mark)


def _class_cell(values: Mapping, key: str, interval: Mapping | None) -> Cell:
    return Cell(number(values[key], 3 if "confidence" in key else 2), _interval(interval))
