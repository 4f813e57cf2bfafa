"""REG's losses: pure functions on tensors, float32 inside; torch and nothing else."""

from .class_balance import SCHEMES, class_weights, imbalance_ratio
from .focal import binary_focal_loss, generalized_focal_loss
from .refinement import box_class_distance, mask_distance, refinement_weight
from .reg import CROSS_ENTROPY, LossSettings, Refinement, box_terms, divide, mask_terms

__all__ = [
    "CROSS_ENTROPY",
    "SCHEMES",
    "LossSettings",
    "Refinement",
    "binary_focal_loss",
    "box_class_distance",
    "box_terms",
    "class_weights",
    "divide",
    "generalized_focal_loss",
    "imbalance_ratio",
    "mask_distance",
    "mask_terms",
    "refinement_weight",
]
