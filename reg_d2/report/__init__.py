"""The report of an evaluation: one HTML file with tables, curves and pictures that needs no network."""

from .page import render_report, write_report
from .run import Run, analyse

__all__ = ["Run", "analyse", "render_report", "write_report"]
