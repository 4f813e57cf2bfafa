"""The analysis as one HTML file: tables and plots, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}img{max-width:100%}code{background:#f3f3f3;padding:.1em .3em}"""
_COLOR = "#2a6f97"


def page(name: str, analysis: dict) -> str:
    """The whole page; ``analysis`` of :func:`reg_d2.data.analysis.analyse`."""
    parts = [f"<h1>{html.escape(name)}</h1>"]
    parts.append(f"<p>{analysis['images']:,} images, {analysis['objects']:,} objects.</p>")
    ratios = {task: "none" if r is None else f"{r:g}" for task, r in analysis["imbalance_ratio"].items()}
    parts.append(f"<p>Imbalance ratio &rho; (E11): boxes {ratios['box']}, masks {ratios['mask']}.</p>")
    parts += [_section("Classes", _class_table(analysis), _plot(_draw_counts, analysis))]
    parts += [_section("Class weights, to mean 1 (E10)", *_weight_tables(analysis))]
    parts += [_section("Sizes in pixels", _size_table(analysis), _plot(_draw_sizes, analysis))]
    parts += [_section("Objects per image", _plot(_draw_per_image, analysis))]
    parts += [_section("Where the centres are", _plot(_draw_heat_maps, analysis))]
    parts += [_section("Images that show both classes", _plot(_draw_co_occurrence, analysis))]
    text = "In image diagonals, between a background region and the nearest object: what beta and delta act on (E4)."
    distances = _distance_table(analysis)
    parts += [_section("Background to objects", f"<p>{text}</p>", distances, _plot(_draw_distance, analysis))]
    keys = {k: v for k, v in analysis["suggested"].items() if k != "repeat_factors"}
    parts += [_section("Suggested", _table(["key", "value"], [[f"<code>{k}</code>", v] for k, v in keys.items()]))]
    factors = analysis["suggested"]["repeat_factors"].items()
    parts.append(_table(["class", "repeat factor"], [[html.escape(n), f] for n, f in factors]))
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{html.escape(name)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}\n{body}\n</html>\n'


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<h2>{title}</h2>", *parts])


def _table(head: Sequence, rows: Sequence[Sequence]) -> str:
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{'-' if cell is None else cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _class_table(analysis: dict) -> str:
    rows = [[html.escape(n), c["objects"], c["masks"], c["images"]] for n, c in analysis["classes"].items()]
    return _table(["class", "objects", "with mask", "images"], rows)


def _weight_tables(analysis: dict) -> list[str]:
    tables = []
    for task, schemes in analysis["class_weights"].items():
        names = list(next(iter(schemes.values())))
        rows = [[html.escape(n), *(f"{weights[n]:.3f}" for weights in schemes.values())] for n in names]
        tables.append(_table([task, *schemes], rows))
    return tables


def _size_table(analysis: dict) -> str:
    rows = []
    for name, size in analysis["sizes"].items():
        side, ratio = (size[k] or dict.fromkeys(("p5", "p50", "p95")) for k in ("side", "aspect_ratio"))
        cells = [side["p5"], side["p50"], side["p95"], ratio["p50"], size["small"], size["medium"], size["large"]]
        rows.append([html.escape(name), *cells])
    return _table(["class", "side p5", "p50", "p95", "height / width", "small", "medium", "large"], rows)


def _distance_table(analysis: dict) -> str:
    groups = {"any class": analysis["background_distance"]["any"], **analysis["background_distance"]["classes"]}
    rows = [
        [html.escape(n), *(v[p] if v else None for p in ("p5", "p25", "p50", "p75", "p95"))] for n, v in groups.items()
    ]
    return _table(["nearest object of", "p5", "p25", "p50", "p75", "p95"], rows)


def _plot(draw, analysis: dict) -> str:
    figure = Figure(figsize=(10, 4), layout="constrained")
    draw(figure, analysis)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _draw_counts(figure: Figure, analysis: dict) -> None:
    axes, classes = figure.subplots(), analysis["classes"]
    place = np.arange(len(classes))
    axes.bar(place - 0.2, [c["objects"] for c in classes.values()], 0.4, label="objects", color=_COLOR)
    axes.bar(place + 0.2, [c["masks"] for c in classes.values()], 0.4, label="with mask", color="#e9a23b")
    axes.set_xticks(place, list(classes), rotation=30, ha="right")
    axes.legend()


def _draw_sizes(figure: Figure, analysis: dict) -> None:
    axes = figure.subplots()
    sizes = {name: s["side"] for name, s in analysis["sizes"].items() if s["side"]}
    keys = {"whislo": "p5", "q1": "p25", "med": "p50", "q3": "p75", "whishi": "p95"}
    axes.bxp([{**{k: side[p] for k, p in keys.items()}, "label": n} for n, side in sizes.items()], showfliers=False)
    axes.set_yscale("log")
    axes.set_ylabel("sqrt(width x height), px")
    axes.tick_params("x", rotation=30)


def _draw_per_image(figure: Figure, analysis: dict) -> None:
    axes, counts = figure.subplots(), analysis["objects_per_image"]["histogram"]
    axes.bar(range(len(counts)), counts, color=_COLOR)
    axes.set(xlabel="objects", ylabel="images")


def _draw_heat_maps(figure: Figure, analysis: dict) -> None:
    maps = analysis["heat_maps"]
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure.set_size_inches(10, 2.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, counts) in zip(grid[: len(maps)], maps.items(), strict=True):
        axes.imshow(counts, cmap="viridis")
        axes.set_title(name, fontsize=9)


def _draw_co_occurrence(figure: Figure, analysis: dict) -> None:
    figure.set_size_inches(8, 7)
    axes, names, counts = figure.subplots(), list(analysis["classes"]), np.array(analysis["co_occurrence"])
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (i, j), n in np.ndenumerate(counts):
        axes.text(j, i, n, ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)


def _draw_distance(figure: Figure, analysis: dict) -> None:
    axes, counts = figure.subplots(), analysis["background_distance"]["histogram"]
    axes.bar((np.arange(len(counts)) + 0.5) / len(counts), counts, 1 / len(counts), color=_COLOR)
    axes.set(xlabel="distance, image diagonals", ylabel="background regions")
