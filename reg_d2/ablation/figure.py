"""A study on one data set as a figure: a dot with its interval for each row, a small one for each seed."""

from __future__ import annotations

import io
import textwrap

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..report.style import DARK, GREY, RC, RUN_COLORS
from .comparison import BOXES, MASKS, SEEDS_OF_AN_INTERVAL, Comparison, Metric, has_interval
from .tables import significant

PANEL_WIDTH, LABEL_WIDTH, ROW_HEIGHT = 2.3, 2.6, 0.34
LABEL_LETTERS, LABEL_LINES = 40, 2
LEGEND_LETTERS_PER_INCH = 15
BETTER, WORSE = RUN_COLORS[2], RUN_COLORS[1]


def panels() -> dict[str, Metric]:
    """Title -> metric, from left to right."""
    by_key = {what: {m.path[-1]: m for m in metrics} for what, metrics in (("box", BOXES), ("mask", MASKS))}
    return {
        "box AP": by_key["box"]["AP"],
        "box AP, tail classes": by_key["box"]["AP_tail"],
        "box AP, two rarest": by_key["box"]["AP_rarest"],
        "box F1": by_key["box"]["f1"],
        "mask AP": by_key["mask"]["AP"],
        "mask AP, two rarest": by_key["mask"]["AP_rarest"],
    }


def draw(comparison: Comparison) -> Figure:
    """The figure; a metric that no row has gets no panel. Colour where the corrected difference is below 0.05."""
    shown = {t: m for t, m in panels().items() if any(comparison.values(row, m) for row in comparison.rows)}
    if comparison.tail_is_rarest("bbox"):
        shown.pop("box AP, tail classes", None)
    rows = list(comparison.rows)
    with matplotlib.rc_context(RC):
        width = LABEL_WIDTH + PANEL_WIDTH * max(1, len(shown))
        figure = Figure(figsize=(width, 1.1 + ROW_HEIGHT * len(rows)), layout="constrained")
        if not shown:
            return figure
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, (title, metric) in zip(axes, shown.items(), strict=True):
            _panel(axis, comparison, metric)
            axis.set_title(title, loc="left")
        axes[0].set_yticks(range(len(rows)), [_wrapped(comparison.study.rows[row].label) for row in rows])
        axes[0].set_ylim(len(rows) - 0.5, -0.5)
        base = comparison.study.base_row
        dashed = f"Dashed: {comparison.study.rows[base].label}. " if base in comparison.rows else ""
        legend = (
            f"Large dots: means, with their 95 % interval from {SEEDS_OF_AN_INTERVAL} seeds on; small: seeds. "
            f"{dashed}Green: better, orange: worse than what the row is held against (p < 0.05, Holm); "
            f"hollow: neither, or fewer than {SEEDS_OF_AN_INTERVAL} seeds."
        )
        figure.supxlabel(
            textwrap.fill(legend, int(width * LEGEND_LETTERS_PER_INCH)),
            fontsize=8,
            color=DARK,
            x=0.01,
            ha="left",
        )
    return figure


def to_svg(comparison: Comparison) -> str:
    """The figure as SVG, the same text for the same numbers."""
    figure, text = draw(comparison), io.StringIO()
    with matplotlib.rc_context(RC):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _wrapped(label: str) -> str:
    return "\n".join(
        textwrap.wrap(label, LABEL_LETTERS, max_lines=LABEL_LINES, placeholder=" …", break_on_hyphens=False)
    )


def _panel(axis: Axes, comparison: Comparison, metric: Metric) -> None:
    base = comparison.means[metric].get(comparison.study.base_row)
    if base is not None and base.mean is not None:
        axis.axvline(base.mean, color=GREY, linestyle="--", linewidth=1, zorder=1)
    for y, row in enumerate(comparison.rows):
        mean = comparison.means[metric][row]
        if mean.mean is None:
            continue
        values = list(comparison.values(row, metric).values())
        color, filled = DARK, row == comparison.study.base_row
        if significant(comparison.corrected[metric].get(row)):
            color, filled = (BETTER if comparison.differences[metric][row].mean > 0 else WORSE), True
        axis.scatter(values, [y + 0.22] * len(values), s=7, color=color, alpha=0.45, linewidths=0, zorder=2)
        if has_interval(mean):
            axis.plot([mean.low, mean.high], [y, y], color=color, linewidth=1.6, zorder=3, solid_capstyle="butt")
        face = color if filled else "white"
        axis.scatter([mean.mean], [y], s=28, facecolor=face, edgecolor=color, linewidths=1.4, zorder=4)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.08)
