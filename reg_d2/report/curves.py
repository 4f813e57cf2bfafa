"""Figures made of lines: precision over recall, F1 over confidence, reliability, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..evaluation import confidence_curves, precision_recall_curves
from .run import Run
from .style import DARK, GREY, MAX_CLASSES, Picture, class_color, figure, legend_below, run_style, wrapped

TASK_NAMES = {"bbox": "boxes", "segm": "masks", "segm_boxes": "boxes of classes with masks"}
# Of the 1,000 confidences: as many points as a screen shows.
STEP = 4


def precision_recall(runs: Sequence[Run], task: str) -> Picture:
    """Precision over recall: each class at IoU 0.5 and the mean for one run, the means of several."""
    curves = [precision_recall_curves(run.evaluation.tasks[task]) for run in runs]

    def draw(fig):
        axes = _unit_axes(fig, "recall", "precision")
        for i, (run, curve) in enumerate(zip(runs, curves, strict=True)):
            known = {n: c for n, c in curve["precision"].items() if c is not None}
            if len(runs) == 1:
                _class_lines(axes, curve["recall"], {n: c["0.50"] for n, c in known.items()}, _all_classes(run))
            for iou in ("0.50", "0.75"):
                if known:
                    mean = np.mean([c[iou] for c in known.values()], axis=0)
                    style = _mean_style(len(runs), i) | ({} if iou == "0.50" else {"alpha": 0.55, "linewidth": 1.3})
                    label = "mean" if len(runs) == 1 else run.name
                    axes.plot(curve["recall"], mean, label=f"{label}, IoU {iou}", **style)
        legend_below(fig, axes, 2)

    caption = "Classes at IoU 0.50." if len(runs) == 1 else "Means over the classes; pale: IoU 0.75."
    return figure(draw, f"Precision over recall, {TASK_NAMES[task]}", caption, height=_height(runs, task))


def f1_confidence(runs: Sequence[Run], task: str) -> Picture:
    """F1 over confidence at IoU 0.5, with the confidence at which precision and recall are given."""
    curves = [confidence_curves(run.evaluation.tasks[task].class_matches()) for run in runs]

    def draw(fig):
        axes = _unit_axes(fig, "confidence", "F1")
        for i, (run, curve) in enumerate(zip(runs, curves, strict=True)):
            if curve["mean_f1"] is None:
                continue
            x = curve["confidence"][::STEP]
            if len(runs) == 1:
                known = {n: c["f1"][::STEP] for n, c in curve["per_class"].items() if c is not None}
                _class_lines(axes, x, known, _all_classes(run))
            style = _mean_style(len(runs), i)
            axes.plot(x, curve["mean_f1"][::STEP], label="mean" if len(runs) == 1 else run.name, **style)
            at = run.results[task]["confidence"]
            axes.axvline(at, color=style["color"], linewidth=1, linestyle=":")
            axes.annotate(f"{at:.2f}", (at, 1), xytext=(3, -3 - 11 * i), textcoords="offset points", va="top")
        legend_below(fig, axes, 2)

    caption = "Dotted: the confidence at which precision, recall, F1 and counts are given."
    return figure(draw, f"F1 over confidence, {TASK_NAMES[task]}", caption, height=_height(runs, task))


def reliability(run: Run, task: str) -> Picture:
    """Share of right detections over their score, before and after scaling, and how many there are."""
    variants = {"as scored": run.results[task]["calibration"], **run.calibrated.get(task, {})}

    def draw(fig):
        axes, below = fig.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfect")
        for i, (name, values) in enumerate(variants.items()):
            bins = [b for b in values["bins"] if b["num"]]
            ece = "n/a" if values["ece"] is None else f"{values['ece']:.1f}"
            x, y = [b["confidence"] for b in bins], [b["precision"] for b in bins]
            axes.plot(x, y, marker="os^"[i % 3], markersize=4, label=f"{name}, ECE {ece}", **run_style(i))
        bins = variants["as scored"]["bins"]
        below.bar([b["low"] for b in bins], [b["num"] for b in bins], width=0.1, align="edge", color="#9fb6c9", ec="w")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right")
        below.set(xlabel="score", ylabel="number")
        below.locator_params(axis="y", nbins=3)
        legend_below(fig, axes, 2)

    title = f"Reliability of the scores, {TASK_NAMES[task]}, {run.name}"
    return figure(draw, title, "Below the diagonal: scores promise too much.", height=4.3)


def error_over_std(run: Run, task: str) -> Picture | None:
    """Error of the score over its predicted standard deviation; None where detections carry none."""
    values = run.results[task]["calibration"].get("score_std")
    if not values or not values["bins"]:
        return None

    def draw(fig):
        axes = fig.subplots()
        x, y = [b["score_std"] for b in values["bins"]], [b["error"] for b in values["bins"]]
        axes.plot(x, y, marker="o", color=run_style(0)["color"])
        axes.set(xlabel="standard deviation of the score", ylabel="|right or wrong - score|", ylim=(0, None))

    rank = values["correlation"]
    caption = "Equal numbers of detections in each point; rank correlation " + (
        "n/a." if rank is None else f"{rank:.2f}."
    )
    return figure(draw, f"Error over predicted standard deviation, {TASK_NAMES[task]}, {run.name}", caption)


def training(title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], run: str) -> Picture:
    """One group of training curves. ``series``: name -> iterations and values."""

    def draw(fig):
        axes = fig.subplots()
        for i, (name, (x, y)) in enumerate(series.items()):
            bold = name == "total_loss"
            style = {"color": DARK, "linewidth": 2} if bold else {"color": class_color(i), "linewidth": 1.2}
            dash = "-" if bold or i < MAX_CLASSES else "--"
            label = wrapped(name, 30, 1) if title != "Losses" else name
            axes.plot(x, y, label=label, linestyle=dash, marker="o" if len(x) == 1 else None, **style)
        axes.set(xlabel="iteration", title=title)
        if title == "Losses":
            axes.set_yscale("log")
        legend_below(fig, axes, 2)

    rows = (len(series) + 1) // 2
    return figure(draw, f"{title} over training, {run}", height=2.9 + 0.19 * rows)


def _all_classes(run: Run) -> list[str]:
    """Of boxes and masks alike, so that a class has one colour in all figures and pictures."""
    return [c["name"] for c in run.evaluation.truth["categories"]]


def _unit_axes(fig, x: str, y: str):
    axes = fig.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y)
    return axes


def _class_lines(axes, x, lines: Mapping[str, Sequence[float]], names: list[str]) -> None:
    few = len(names) <= MAX_CLASSES
    for name, y in lines.items():
        style = {"color": class_color(names.index(name)), "label": wrapped(name, 30, 1)} if few else {"color": GREY}
        axes.plot(x, y, linewidth=1.1, alpha=0.9 if few else 0.4, **style)


def _mean_style(num_runs: int, index: int) -> dict:
    return {"color": DARK, "linestyle": "-", "linewidth": 2.6} if num_runs == 1 else run_style(index) | {"linewidth": 2}


def _height(runs: Sequence[Run], task: str) -> float:
    num = len(runs[0].evaluation.tasks[task].names) if len(runs) == 1 else len(runs)
    return 3.5 + 0.19 * ((min(num, MAX_CLASSES) + 3) // 2)
