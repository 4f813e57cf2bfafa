"""REG's losses: pure functions on tensors, float32 inside; torch and nothing else."""

from .class_balance import SCHEMES, class_weights, imbalance_ratio
from .focal import binary_focal_loss, generalized_focal_loss
from .refinement import box_class_distance, mask_distance, refinement_weight
from .reg import (
    LearnedRefinement,
    box_class_losses,
    box_terms,
    divide,
    mask_class_losses,
    mask_terms,
)
from .settings import CROSS_ENTROPY, LOSSES, FreeEnergy, LossSettings, Refinement, Uncertainty
from .uncertainty import (
    LOG_VARIANCE_RANGE,
    clamp_log_variance,
    gaussian_kl,
    marginal_log_softmax,
    marginal_logit,
    marginal_probability,
    mean_for_probability,
    probability_std,
    softmax_std,
)

__all__ = [
    "CROSS_ENTROPY",
    "LOG_VARIANCE_RANGE",
    "LOSSES",
    "SCHEMES",
    "FreeEnergy",
    "LearnedRefinement",
    "LossSettings",
    "Refinement",
    "Uncertainty",
    "binary_focal_loss",
    "box_class_distance",
    "box_class_losses",
    "box_terms",
    "clamp_log_variance",
    "class_weights",
    "divide",
    "gaussian_kl",
    "generalized_focal_loss",
    "imbalance_ratio",
    "marginal_log_softmax",
    "marginal_logit",
    "marginal_probability",
    "mask_class_losses",
    "mask_distance",
    "mask_terms",
    "mean_for_probability",
    "probability_std",
    "refinement_weight",
    "softmax_std",
]
