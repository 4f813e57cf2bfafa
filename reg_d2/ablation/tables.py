"""A study's tables, as Markdown and CSV; nothing in them is typed by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tabulate import tabulate

from ..evaluation import paper_tables
from .comparison import BOXES, COST, MASKS, METRICS, Comparison, Metric, has_interval, machines, pooled_deviation
from .statistics import Estimate, estimate

NONE = "n/a"
SIGNIFICANT = 0.05
# Of each of ``Comparison.references``.
REFERENCE_COLUMNS = (
    ("versus", "pairs", "difference", "difference_low", "difference_high", "p_value", "p_holm"),
    ("made_from", "step_pairs", "step", "step_low", "step_high", "step_p_value", "step_p_holm"),
    ("also_versus", "also_pairs", "also_difference", "also_low", "also_high", "also_p_value", "also_p_holm"),
)
CSV_COLUMNS = (
    *("study", "dataset", "row", "metric", "n", "mean", "low", "high", "deviation"),
    *(name for names in REFERENCE_COLUMNS for name in names),
)
# Of the tables of differences; the CSV has all of them.
SHOWN_DIFFERENCES = ("AP", "AP50", "f1", "AP_rarest")


def markdown(comparison: Comparison, *, heading: str = "##", figure: str | None = None) -> str:
    """A study on one data set: its figure and the differences, the means folded away, where the numbers come from.

    Args:
        heading: Markdown's mark of the level of headings.
    """
    study = comparison.study
    parts = [f"{heading} {study.name} on {comparison.dataset}"]
    if comparison.rows:
        if figure is not None:
            parts.append(f"![{study.name} on {comparison.dataset}: dots with intervals]({figure})")
        parts += _difference_tables(comparison)
        spread = ", ".join(
            f"{name} {_number(pooled_deviation(comparison, metrics[0]), metrics[0])}"
            for name, metrics in (("box AP", BOXES), ("mask AP", MASKS))
        )
        parts.append(
            "<details><summary>Means: boxes, masks, cost</summary>\n\n"
            "Mean and 95 % t-interval over seeds; of two seeds the mean and both; AP and F1 in percent; head, middle, "
            "tail and two rarest classes by their objects in training. Standard deviation over seeds, pooled over "
            f"rows: {spread}."
        )
        for title, metrics in (("Boxes", BOXES), ("Masks", MASKS), ("Cost", COST)):
            parts.append(f"**{title}**\n\n{_means(comparison, _shown(comparison, metrics))}")
        parts.append("</details>")
        if study.paper_tables:
            parts.append(paper_tables(_mean_results(comparison), "markdown"))
    notes = [
        f"{share.results} results from {machine}{_duration(share.seconds)}"
        for machine, share in machines(comparison).items()
    ]
    parts.append("\n".join(f"- {note}" for note in [*notes, *comparison.notes]))
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Every metric of every row, one a line, with the difference from the row that it is compared with."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        for row in comparison.rows:
            for metric in METRICS:
                mean = comparison.means[metric][row]
                if mean.mean is None:
                    continue
                line = {
                    "study": comparison.study.name,
                    "dataset": comparison.dataset,
                    "row": row,
                    "metric": metric.name,
                }
                line |= {
                    "n": mean.n,
                    "mean": mean.mean,
                    "low": mean.low,
                    "high": mean.high,
                    "deviation": mean.deviation,
                }
                for names, (others, estimates, corrected) in zip(REFERENCE_COLUMNS, comparison.references, strict=True):
                    if (found := estimates.get(metric, {}).get(row)) is not None:
                        values = (others[row], found.n, found.mean, found.low, found.high, found.p_value)
                        line |= dict(zip(names, (*values, corrected[metric][row]), strict=True))
                writer.writerow({k: _plain(v) for k, v in line.items()})
    return text.getvalue()


def significant(p_value: float | None) -> bool:
    """Whether a corrected p-value is below 0.05."""
    return p_value is not None and p_value < SIGNIFICANT


def _means(comparison: Comparison, metrics: Sequence[Metric]) -> str:
    rows = [
        [_label(comparison, row), str(len(seeds)), *(_interval(comparison.means[m][row], m) for m in metrics)]
        for row, seeds in comparison.rows.items()
    ]
    return _table(rows, ["row", "seeds", *(m.title for m in metrics)])


def _shown(comparison: Comparison, metrics: Sequence[Metric]) -> list[Metric]:
    """Without the tail where it is the two rarest classes, and without empty images where a row lacks them."""

    def is_shown(metric: Metric) -> bool:
        if metric.path[-1] == "AP_tail":
            return not comparison.tail_is_rarest(metric.path[1])
        return metric.path[-1] != "per_empty_image" or all(comparison.values(row, metric) for row in comparison.rows)

    return [m for m in metrics if is_shown(m)]


def _difference_tables(comparison: Comparison) -> list[str]:
    shown = {
        title: m
        for what, metrics in (("box", BOXES), ("mask", MASKS))
        for m in metrics
        if m.path[-1] in SHOWN_DIFFERENCES
        for title in [f"{what} {m.title}"]
    }
    second = comparison.study.also_versus
    titles = (
        "**Differences**: row minus the one it is held against, mean [95 % interval] over the seeds that both have, p "
        "of the paired t-test after Holm's correction for the rows of a column, bold below 0.05; of two seeds the mean "
        "(and both), of one its difference, without a test.",
        "**Step by step**: the same against the row that each was made from.",
        f"**Against {_label(comparison, second)}**: the same." if second else "",
    )
    tables = []
    for title, (others, estimates, corrected) in zip(titles, comparison.references, strict=True):
        if not others:
            continue
        rows = [
            [
                _label(comparison, row),
                _label(comparison, other),
                *(_difference(estimates[m][row], corrected[m][row], m) for m in shown.values()),
            ]
            for row, other in others.items()
        ]
        tables.append(f"{title}\n\n{_table(rows, ['row', 'against', *shown])}")
    return tables


def _mean_results(comparison: Comparison) -> dict[str, dict]:
    """Row -> results of which every number is the mean over seeds: what the paper's tables show."""
    means: dict[str, dict] = {}
    for row, seeds in comparison.rows.items():
        tasks: dict[str, dict] = {}
        for task in next(iter(seeds.values()))["metrics"]:
            found = [result["metrics"].get(task, {}) for result in seeds.values()]
            numbers = {k for values in found for k, v in values.items() if isinstance(v, (int, float))}
            tasks[task] = {k: estimate([v[k] for v in found if v.get(k) is not None]).mean for k in numbers}
        means[comparison.study.rows[row].label] = tasks
    return means


def _label(comparison: Comparison, row: str) -> str:
    return comparison.study.rows[row].label


def _interval(value: Estimate, metric: Metric) -> str:
    """``32.4 ± 1.2``; two seeds give ``32.4 (32.0 to 32.8)``, a single one ``32.4``."""
    number = _number(value.mean, metric)
    if value.high is None:
        return number
    if not has_interval(value):
        return f"{number} ({' to '.join(_number(x, metric) for x in _both(value))})"
    return f"{number} ± {_number(value.high - value.mean, metric)}"


def _difference(value: Estimate, p_value: float | None, metric: Metric) -> str:
    """``+1.3 [-0.2, +2.8] p 0.08``; two seeds give ``+1.3 (+1.1, +1.5)``, a single one ``+1.3``."""
    if value.mean is None:
        return NONE
    number = _signed(value.mean, metric)
    if value.low is None:
        return number
    if not has_interval(value):
        return f"{number} ({', '.join(_signed(x, metric) for x in _both(value))})"
    text = f"{number} [{_signed(value.low, metric)}, {_signed(value.high, metric)}]"
    if p_value is not None:
        text += " p < 0.001" if p_value < 0.001 else f" p {p_value:.3f}"
    return f"**{text}**" if significant(p_value) else text


def _both(value: Estimate) -> tuple[float, float]:
    """The two values of an estimate from two, the lower one first: their deviation is (high - low) / sqrt(2)."""
    half = value.deviation / 2**0.5
    return value.mean - half, value.mean + half


def _signed(value: float, metric: Metric) -> str:
    """With its sign; with a decimal more where it would round to 0, so that a bound's side of 0 is seen."""
    if value == 0:
        return _number(value, metric)
    text = f"{value:+.{metric.decimals}f}"
    return text if float(text) != 0 else f"{value:+.{metric.decimals + 1}f}"


def _number(value: float | None, metric: Metric) -> str:
    return NONE if value is None else f"{value:.{metric.decimals}f}"


def _duration(seconds: float) -> str:
    """``: 12 min of training in sum``, ``: 3.2 h of training in sum``: of all runs, side by side or not."""
    if not seconds:
        return ""
    time = f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
    return f": {time} of training in sum"


def _plain(value) -> str | int | None:
    return f"{value:.6g}" if isinstance(value, float) else value


def _table(rows: list[list[str]], header: Sequence[str]) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    align = ["left"] + ["right"] * (len(header) - 1)
    return tabulate(rows, header, tablefmt="github", colalign=align, disable_numparse=True)
