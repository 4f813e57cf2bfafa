"""The analysis of a data set as one HTML file: tables and plots, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from .page import breakable
from .style import RUN_COLORS, figure, legend_below, wrapped

CSS = Path(__file__).with_name("report.css")
ROW = 0.34  # inches of a class in a bar or box plot


def page(name: str, analysis: dict) -> str:
    """The whole page; ``analysis`` of :func:`reg_d2.data.analysis.analyse`."""
    classes = len(analysis["classes"])
    ratios = {task: "none" if r is None else f"{r:.1f}" for task, r in analysis["imbalance_ratio"].items()}
    parts = [
        f"<header><h1>{html.escape(name)}</h1><p>{analysis['images']:,} images, {analysis['objects']:,} objects. "
        f"Imbalance ratio &rho; (E11): boxes {ratios['box']}, masks {ratios['mask']}.</p></header><main>",
        _section("Classes", _class_table(analysis), _plot(_draw_counts, analysis, "objects", 0.9 + ROW * classes)),
        _section("Class weights, to mean 1 (E10)", *_weight_tables(analysis)),
        _section(
            "Sizes in pixels",
            "<p>side: square root of width x height. The plot has the median, the middle half and 5 % to 95 %.</p>",
            _size_table(analysis),
            _plot(_draw_sizes, analysis, "sizes", 0.9 + ROW * classes),
        ),
        _section("Objects per image", _plot(_draw_per_image, analysis, "objects per image", 2.6)),
        _section(
            "Where the centres are",
            "<p>The image from its top to its bottom; bright: many of the class.</p>",
            _plot(_draw_heat_maps, analysis, "heat maps", 1.9 * -(-classes // HEAT_COLUMNS)),
        ),
        _section(
            "Images that show both classes",
            _plot(_draw_co_occurrence, analysis, "co-occurrence", 1.4 + ROW * classes),
        ),
        _section(
            "Background to objects",
            "<p>In image diagonals, between a background region and the nearest object: what beta and delta act on "
            "(E4).</p>",
            _distance_table(analysis),
            _plot(_draw_distance, analysis, "distance of background regions", 2.6),
        ),
        _section("Suggested", *_suggested(analysis["suggested"])),
        "</main>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{CSS.read_text(encoding='utf-8')}</style>"
    )
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _section(title: str, *parts: str) -> str:
    return "\n".join(["<section>", f"<h2>{title}</h2>", *parts, "</section>"])


def _table(head: Sequence, rows: Sequence[Sequence]) -> str:
    lines = ["<thead><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr></thead>"]
    for first, *cells in rows:
        values = "".join(f"<td>{'-' if cell is None else cell}</td>" for cell in cells)
        lines.append(f"<tr><th>{first}</th>{values}</tr>")
    return '<div class="scroll" tabindex="0"><table>' + "\n".join(lines) + "</table></div>"


def _rounded(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"


def _class_table(analysis: dict) -> str:
    rows = [[breakable(n), c["objects"], c["masks"], c["images"]] for n, c in analysis["classes"].items()]
    return _table(["class", "objects", "with mask", "images"], rows)


def _weight_tables(analysis: dict) -> list[str]:
    tables = []
    for task, schemes in analysis["class_weights"].items():
        names = list(next(iter(schemes.values())))
        rows = [[breakable(n), *(f"{weights[n]:.3f}" for weights in schemes.values())] for n in names]
        tables.append(_table([task, *map(breakable, schemes)], rows))
    return tables


def _size_table(analysis: dict) -> str:
    rows = []
    for name, size in analysis["sizes"].items():
        side, ratio = (size[k] or dict.fromkeys(("p5", "p50", "p95")) for k in ("side", "aspect_ratio"))
        sides = [_rounded(side[p], 0) for p in ("p5", "p50", "p95")]
        counts = [size[k] for k in ("small", "medium", "large")]
        rows.append([breakable(name), *sides, _rounded(ratio["p50"], 2), *counts])
    return _table(["class", "side p5", "p50", "p95", "height / width", "small", "medium", "large"], rows)


def _distance_table(analysis: dict) -> str:
    groups = {"any class": analysis["background_distance"]["any"], **analysis["background_distance"]["classes"]}
    rows = [
        [breakable(n), *(_rounded(v[p], 2) if v else None for p in ("p5", "p25", "p50", "p75", "p95"))]
        for n, v in groups.items()
    ]
    return _table(["nearest object of", "p5", "p25", "p50", "p75", "p95"], rows)


def _suggested(suggested: dict) -> list[str]:
    keys = [f"<p><code>{k}</code>: {v}</p>" for k, v in suggested.items() if k != "repeat_factors"]
    factors = [[breakable(n), _rounded(f, 2)] for n, f in suggested["repeat_factors"].items()]
    return [*keys, _table(["class", "repeat factor"], factors)]


def _plot(draw: Callable[[Figure, dict], None], analysis: dict, alt: str, height: float) -> str:
    picture = figure(lambda fig: draw(fig, analysis), alt, height=height)
    return f'<figure class="plot"><img alt="{picture.alt}" src="{picture.source}"></figure>'


def _draw_counts(fig: Figure, analysis: dict) -> None:
    axes, classes = fig.subplots(), analysis["classes"]
    place = np.arange(len(classes))
    axes.barh(place - 0.2, [c["objects"] for c in classes.values()], 0.4, label="objects", color=RUN_COLORS[0])
    axes.barh(place + 0.2, [c["masks"] for c in classes.values()], 0.4, label="with mask", color=RUN_COLORS[1])
    _name_rows(axes, list(classes))
    legend_below(fig, axes, 2)


def _draw_sizes(fig: Figure, analysis: dict) -> None:
    axes = fig.subplots()
    sizes = {name: s["side"] for name, s in analysis["sizes"].items() if s["side"]}
    keys = {"whislo": "p5", "q1": "p25", "med": "p50", "q3": "p75", "whishi": "p95"}
    boxes = [{k: side[p] for k, p in keys.items()} for side in sizes.values()]
    line = {"color": RUN_COLORS[0]}
    style = {"boxprops": line, "whiskerprops": line, "capprops": line, "medianprops": {"color": RUN_COLORS[1]}}
    axes.bxp(boxes, positions=range(len(boxes)), orientation="horizontal", showfliers=False, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("side, pixels")
    _name_rows(axes, list(sizes))


def _draw_per_image(fig: Figure, analysis: dict) -> None:
    axes, counts = fig.subplots(), analysis["objects_per_image"]["histogram"]
    axes.bar(range(len(counts)), counts, color=RUN_COLORS[0])
    axes.set(xlabel="objects", ylabel="images")
    axes.xaxis.get_major_locator().set_params(integer=True)


HEAT_COLUMNS = 3


def _draw_heat_maps(fig: Figure, analysis: dict) -> None:
    maps = analysis["heat_maps"]
    grid = fig.subplots(-(-len(maps) // HEAT_COLUMNS), HEAT_COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, counts) in zip(grid[: len(maps)], maps.items(), strict=True):
        axes.imshow(counts, cmap="viridis")
        axes.set_title(wrapped(name, 24, 1), fontsize=8)


def _draw_co_occurrence(fig: Figure, analysis: dict) -> None:
    axes, names, counts = fig.subplots(), list(analysis["classes"]), np.array(analysis["co_occurrence"])
    shades = np.log1p(counts)
    axes.imshow(shades, cmap="Blues", aspect="auto")
    axes.grid(False)
    for (i, j), n in np.ndenumerate(counts):
        if n:
            dark = shades[i, j] > 0.6 * shades.max()
            axes.text(j, i, n, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(names)), [wrapped(n, 24, 1) for n in names], rotation=45, ha="right")
    axes.tick_params(labelsize=8)
    _name_rows(axes, names)


def _draw_distance(fig: Figure, analysis: dict) -> None:
    axes, counts = fig.subplots(), analysis["background_distance"]["histogram"]
    axes.bar((np.arange(len(counts)) + 0.5) / len(counts), counts, 1 / len(counts), color=RUN_COLORS[0])
    axes.set(xlabel="distance, image diagonals", ylabel="background regions")


def _name_rows(axes, names: Sequence[str]) -> None:
    """Classes down the left side, the first on top: long names have room there."""
    axes.set_yticks(range(len(names)), [wrapped(n, 24, 1) for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
