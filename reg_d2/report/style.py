"""How figures look, and how they get into the page: SVG in a data URI, drawn for 360 pixels of width and up."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from ..visualize import PALETTE

# Inches of 72 CSS pixels: at this width text of 9 points stays readable on a phone of 390 pixels.
WIDTH = 5.2
MAX_CLASSES = len(PALETTE)
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ea",
    "grid.linewidth": 0.8,
    "axes.edgecolor": "#8a939c",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "reg_d2",
    # A class may be called "$": no formulas.
    "text.parse_math": False,
    "figure.facecolor": "white",
}
# Runs differ in colour, dash and hatch, so that they are told apart in print and in any kind of colour vision.
RUN_COLORS = ("#0072b2", "#d55e00", "#008a64", "#be5091", "#9c7000", "#462d96")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
DARK, GREY = "#22303c", "#8a939c"


@dataclass(frozen=True)
class Picture:
    """A figure of the page: data URI, what a screen reader says, and the line below it (may be empty)."""

    source: str
    alt: str
    caption: str = ""


def figure(draw: Callable[[Figure], None], alt: str, caption: str = "", *, height: float = 3.7) -> Picture:
    """Run ``draw`` on an empty figure of ``WIDTH`` x ``height`` inches and return it as SVG."""
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(fig)
        # Once here and not again in savefig, which would draw everything a second time for it.
        fig.get_layout_engine().execute(fig)
        fig.set_layout_engine(None)
        buffer = io.BytesIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(data_uri(buffer.getvalue(), "image/svg+xml"), alt, caption)


def data_uri(content: bytes, mime: str) -> str:
    """``data:<mime>;base64,...``"""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def class_color(index: int) -> tuple[float, float, float]:
    """RGB 0..1 of a class, the colour that it has in the pictures."""
    return tuple(v / 255 for v in PALETTE[index % len(PALETTE)])


def run_style(index: int) -> dict:
    """Colour and dash of a run's line."""
    return {"color": RUN_COLORS[index % len(RUN_COLORS)], "linestyle": DASHES[index % len(DASHES)]}


def wrapped(name: str, width: int = 16, lines: int = 2) -> str:
    """A class name for an axis: underscores as spaces, at most ``lines`` lines of ``width`` letters."""
    plain = name.replace("_", " ").strip() or name
    return "\n".join(textwrap.wrap(plain, width, max_lines=lines, placeholder="…")) or name


def legend_below(fig: Figure, axes, columns: int) -> None:
    """One legend below the axes, out of the way of the lines."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        fig.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.2, columnspacing=1.2)
