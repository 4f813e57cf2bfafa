"""Checks of a data set before training: its JSON, boxes, masks and pictures, and its splits against each other."""

from .findings import KINDS, Finding, Report, findings_table
from .images import ImageFacts, inspect_images
from .repair import Change, repair
from .run import Checked, check_content, check_dataset, check_file, check_splits
from .structure import UnusableFileError, parse

__all__ = [
    "KINDS",
    "Change",
    "Checked",
    "Finding",
    "ImageFacts",
    "Report",
    "UnusableFileError",
    "check_content",
    "check_dataset",
    "check_file",
    "check_splits",
    "findings_table",
    "inspect_images",
    "parse",
    "repair",
]
