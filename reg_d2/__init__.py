"""reg_d2: REG, the Refined Generalized Focal Loss, on Detectron2."""

from . import compat

compat.apply()

__version__ = "0.1.0"
