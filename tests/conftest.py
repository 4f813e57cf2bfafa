"""Imported before any test module: reg_d2 bridges what Detectron2 lacks, so it must come first."""

import reg_d2  # noqa: F401
