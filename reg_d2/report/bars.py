"""Figures made of bars and cells: classes, sizes, frequency groups, error types, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .curves import TASK_NAMES
from .run import Run
from .style import DARK, HATCHES, RUN_COLORS, Picture, figure, wrapped

ERROR_LABELS = {
    "classification": "wrong class",
    "localisation": "badly placed",
    "both": "both",
    "duplicate": "duplicate",
    "background": "background",
    "missed": "missed",
}
MAX_NUMBERED = 16


def class_bars(runs: Sequence[Run], task: str, metric: str = "AP") -> Picture:
    """One metric of every class with its interval, in the order of the classes."""
    names = list(runs[0].results[task]["per_class"])
    labels = [f"{wrapped(n, 20)} ({runs[0].results[task]['per_class'][n]['num_gt']})" for n in names]
    values = {run.name: [run.results[task]["per_class"][n][metric] for n in names] for run in runs}
    intervals = {run.name: _class_intervals(run, task, metric, names) for run in runs}

    def draw(fig):
        axes = fig.subplots()
        grouped(axes, labels, values, intervals, horizontal=True)
        axes.set(xlim=(0, 100), xlabel=metric)
        axes.margins(y=0.01)

    caption = f"{metric} of each class (in brackets: objects)" + ("; lines: 95% intervals." if _any(intervals) else ".")
    height = 0.9 + len(names) * (0.3 + 0.1 * len(runs)) + 0.2 * (len(runs) > 1)
    return figure(draw, f"{metric} by class, {TASK_NAMES[task]}", caption, height=height)


def group_bars(runs: Sequence[Run], task: str, key: str, title: str) -> Picture:
    """AP50 and recall of the groups of ``results[task][key]``: sizes, or head, middle and tail."""
    groups = list(runs[0].results[task][key])

    def draw(fig):
        both = fig.subplots(1, 2, sharey=True)
        for axes, (metric, label) in zip(both, (("AP50", "AP50"), ("recall", "recall")), strict=True):
            values = {run.name: [run.results[task][key][g][metric] for g in groups] for run in runs}
            counts = [runs[0].results[task][key][g]["num_gt"] for g in groups]
            grouped(axes, [f"{g}\n({n})" for g, n in zip(groups, counts, strict=True)], values, legend=axes is both[0])
            axes.set(ylim=(0, 100), title=label)

    return figure(draw, f"{title}, {TASK_NAMES[task]}", f"{title}; in brackets: objects.", height=3.2)


def error_bars(runs: Sequence[Run], task: str) -> Picture:
    """AP50 that each type of error costs."""
    values = {
        run.name: [run.results[task]["errors"]["types"][kind]["ap_cost"] for kind in ERROR_LABELS] for run in runs
    }

    def draw(fig):
        axes = fig.subplots()
        grouped(axes, list(ERROR_LABELS.values()), values, horizontal=True, digits=1)
        axes.set(xlabel="AP50 points that mending it would add", xlim=(0, None))
        axes.margins(x=0.12)

    height = 1.2 + len(ERROR_LABELS) * (0.24 + 0.12 * len(runs))
    return figure(draw, f"What errors cost, {TASK_NAMES[task]}", height=height)


def confusion(run: Run, task: str) -> Picture:
    """Ground truth in rows, prediction in columns; shade: share of the row."""
    values = run.results[task]["confusion"]
    matrix, names = np.array(values["matrix"], dtype=float), values["classes"]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    num = len(names)

    def draw(fig):
        axes = fig.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        size = 8.5 if num <= 8 else 7
        axes.set_xticks(range(num), [wrapped(n, 17) for n in names], rotation=90, fontsize=size)
        axes.set_yticks(range(num), [wrapped(n, 17) for n in names], fontsize=size)
        axes.set(xlabel="prediction", ylabel="ground truth")
        if num <= MAX_NUMBERED:
            for i, j in zip(*np.nonzero(matrix), strict=True):
                color = "white" if shares[i, j] > 0.5 else DARK
                axes.text(j, i, f"{matrix[i, j]:.0f}", ha="center", va="center", fontsize=size, color=color)

    at = "" if values["confidence"] is None else f" at confidence {values['confidence']:.2f}, IoU {values['iou']:g}"
    caption = f"{run.name}: numbers{at}. Last column: missed; last row: on background."
    return figure(draw, f"Confusion matrix, {TASK_NAMES[task]}, {run.name}", caption, height=min(5.4, 2.4 + 0.27 * num))


def grouped(
    axes,
    labels: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    intervals: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
    *,
    horizontal: bool = False,
    legend: bool = True,
    digits: int = 0,
) -> None:
    """A bar for each label and run with its value; None: no bar, "n/a"."""
    thickness = 0.8 / len(values)
    span = max([v for row in values.values() for v in row if v is not None], default=0) or 1
    for i, (name, row) in enumerate(values.items()):
        at = np.arange(len(labels)) + (i - (len(values) - 1) / 2) * thickness
        known = [0 if v is None else v for v in row]
        style = {"color": RUN_COLORS[i % len(RUN_COLORS)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white"}
        (axes.barh if horizontal else axes.bar)(at, known, thickness * 0.92, label=name, **style)
        ends = _draw_intervals(axes, at, row, (intervals or {}).get(name), horizontal)
        for x, v, end in zip(at, row, ends, strict=True):
            text = "n/a" if v is None else f"{v:.{digits}f}"
            place = (end + 0.015 * span, x) if horizontal else (x, end + 0.01 * span)
            style = {"va": "center"} if horizontal else {"ha": "center", "va": "bottom"}
            axes.text(*place, text, fontsize=7.5, color=DARK, clip_on=False, **style)
    (axes.set_yticks if horizontal else axes.set_xticks)(range(len(labels)), labels)
    axes.grid(False, axis="y" if horizontal else "x")
    if horizontal:
        axes.invert_yaxis()
    if legend and len(values) > 1:
        axes.figure.legend(loc="outside lower center", ncols=min(3, len(values)))


def _draw_intervals(axes, at, row, intervals, horizontal) -> list[float]:
    """Draw them; return where each bar with its interval ends."""
    ends = []
    for x, v, interval in zip(at, row, intervals or [None] * len(row), strict=True):
        low, high = interval or (None, None)
        if low is not None:
            points = ([low, high], [x, x]) if horizontal else ([x, x], [low, high])
            axes.plot(*points, color=DARK, linewidth=1.3, marker="|" if horizontal else "_", markersize=5)
        ends.append(max(v or 0, high or 0))
    return ends


def _class_intervals(run: Run, task: str, metric: str, names: Sequence[str]) -> list[tuple | None]:
    if run.intervals is None:
        return [None] * len(names)
    found = [run.intervals[task]["per_class"][n][metric] for n in names]
    return [None if f["low"] is None else (f["low"], f["high"]) for f in found]


def _any(intervals: Mapping[str, Sequence]) -> bool:
    return any(i is not None for row in intervals.values() for i in row)
