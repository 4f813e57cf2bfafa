"""The paper's three tables (E18) and a table per class, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

FORMATS = {"text": "simple", "markdown": "github"}
# The paper's columns, in its order; F1-score is 2PR/(P+R) of the means of P and R.
COLUMNS = {
    "mAP50": "AP50",
    "mAP50-95": "AP",
    "Precision": "precision",
    "Recall": "recall",
    "F1-score": "f1",
}
PAPER_TABLES = {
    "bbox": "Table 1. Detection: boxes, all classes",
    "segm": "Table 2. Segmentation: masks, classes with masks",
    "segm_boxes": "Table 3. Segmentation: boxes, classes with masks",
}
CLASS_COLUMNS = {
    **COLUMNS,
    "best F1": "best_f1",
    "at conf.": "best_f1_confidence",
    "objects": "num_gt",
    "TP": "true_positives",
    "FP": "false_positives",
    "missed": "missed",
}


def paper_tables(models: Mapping[str, Mapping], fmt: str = "text") -> str:
    """Tables 1 to 3 of the paper (E18), one row per model, each under its title; a table nobody has is left out.

    ``models``: row name -> results of ``evaluate_detections``, as in ``{"REG B": results}``. ``fmt``: "text" or
    "markdown". Rates in percent, "n/a" where there is none.
    """
    tables = []
    for task, title in PAPER_TABLES.items():
        if any(task in results for results in models.values()):
            tables.append(f"{_title(title, fmt)}\n\n{summary_table(models, task, fmt)}")
    return "\n\n".join(tables)


def summary_table(models: Mapping[str, Mapping], task: str, fmt: str = "text") -> str:
    """One table of the paper: ``REG | mAP50 | mAP50-95 | Precision | Recall | F1-score``, one row per model.

    ``task``: "bbox", "segm" or "segm_boxes". ``models``, ``fmt`` as in ``paper_tables``.
    """
    rows = [[name, *_cells(results.get(task, {}), COLUMNS)] for name, results in models.items()]
    return _table(rows, ["REG", *COLUMNS], fmt)


def class_table(results: Mapping[str, Mapping], task: str, fmt: str = "text") -> str:
    """One row per class and a last one, "mean": the paper's columns, each class's best F1 and its counts.

    Precision, recall, F1 and counts are at the one confidence of the task, which the caption gives. ``results`` of
    ``evaluate_detections``; ``task``, ``fmt`` as in ``summary_table``.
    """
    values = results[task]
    rows = [[name, *_cells(of_class, CLASS_COLUMNS)] for name, of_class in values["per_class"].items()]
    rows.append(["mean", *_cells(values | {"best_f1": values["f1_mean_of_best"]}, CLASS_COLUMNS, absent="")])
    confidence = _cell("confidence", values["confidence"])
    caption = f"Precision, recall, F1 and counts at confidence {confidence}, the best for the mean F1 of all classes."
    return f"{_table(rows, ['class', *CLASS_COLUMNS], fmt)}\n\n{caption}"


def _table(rows: list[list[str]], header: list[str], fmt: str) -> str:
    if fmt not in FORMATS:
        raise ValueError(f"unknown table format {fmt!r}: choose from {list(FORMATS)}")
    align = ["left"] + ["right"] * (len(header) - 1)
    # Cells come formatted: left to itself, tabulate would read a class named "1e3" as a number.
    return tabulate(rows, header, tablefmt=FORMATS[fmt], colalign=align if rows else None, disable_numparse=True)


def _title(title: str, fmt: str) -> str:
    return f"**{title}**" if fmt == "markdown" else title


def _cells(values: Mapping, columns: Mapping[str, str], absent: str = "n/a") -> list[str]:
    return [_cell(key, values[key]) if key in values else absent for key in columns.values()]


def _cell(key: str, value: float | int | None) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" if "confidence" in key else f"{value:.2f}"
