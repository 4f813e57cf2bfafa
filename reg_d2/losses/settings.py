"""Settings of a head's loss (E1-E8, E14), checked where they are made."""

import math
from dataclasses import dataclass

from .focal import ACTIVATIONS, check_choice
from .refinement import DIRECTIONS, METRICS
from .uncertainty import DISTRIBUTIONS, METHODS

LOSSES = ("reg", "cross_entropy")
MASK_DIVISORS = ("pixels", "weights")
EXPECTATIONS = ("monte_carlo", "quadrature")


def check_non_negative(key: str, value: float) -> None:
    """Refuse a number below 0, or none; ``key`` is what the message names.

    Raises:
        ValueError: the value is negative, infinite or NaN.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{key} is {value}: expected a finite number >= 0")


@dataclass(frozen=True)
class Refinement:
    """Settings of g (E4): see :func:`refinement_weight` and :func:`box_class_distance`."""

    beta: float = 10.0
    delta: float = 0.15
    direction: str = "near"
    floor: float = 0.0
    metric: str = "center"
    renormalize: bool = True
    learned: bool = False  # beta and delta of each class are parameters (E14), passed to the loss

    def __post_init__(self):
        check_choice("REFINEMENT.DIRECTION", self.direction, DIRECTIONS)
        check_choice("REFINEMENT.METRIC", self.metric, METRICS)
        check_non_negative("REFINEMENT.BETA", self.beta)
        if not math.isfinite(self.delta):
            raise ValueError(f"REFINEMENT.DELTA is {self.delta}: expected a finite number")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"REFINEMENT.FLOOR is {self.floor}: expected a number in [0, 1]")
        if self.learned and not 0 <= self.delta <= 1:
            raise ValueError(f"REFINEMENT.DELTA is {self.delta}: with REFINEMENT.LEARNED, expected a number in [0, 1]")
        if self.learned and not self.renormalize:
            raise ValueError("REFINEMENT.LEARNED needs REFINEMENT.RENORMALIZE: without it the smallest g is learned")


@dataclass(frozen=True)
class FreeEnergy:
    """Settings of E8: the weight of the KL term, its warm-up in iterations, the prior's s0, and how E_q is computed."""

    weight: float = 0.01
    warmup: int = 200
    prior_std: float = 2.0
    method: str = "monte_carlo"
    num_samples: int = 4

    def __post_init__(self):
        check_choice("UNCERTAINTY.FREE_ENERGY.METHOD", self.method, EXPECTATIONS)
        check_non_negative("UNCERTAINTY.FREE_ENERGY.WEIGHT", self.weight)
        check_non_negative("UNCERTAINTY.FREE_ENERGY.WARMUP_ITERS", self.warmup)
        if not 0 < self.prior_std < math.inf:
            raise ValueError(f"UNCERTAINTY.FREE_ENERGY.PRIOR_STD is {self.prior_std}: expected a number > 0")
        if self.num_samples < 1:
            raise ValueError(f"UNCERTAINTY.FREE_ENERGY.NUM_SAMPLES is {self.num_samples}: expected a number >= 1")

    def kl_weight(self, iteration: int) -> float:
        """The weight at an iteration >= 0: it grows linearly over the warm-up."""
        return self.weight * min(1.0, (iteration + 1) / max(self.warmup, 1))


@dataclass(frozen=True)
class Uncertainty:
    """Settings of E6 and E7, and of E8 where ``free_energy`` is set: see :mod:`reg_d2.losses.uncertainty`."""

    distribution: str = "logit"
    method: str = "probit"
    num_samples: int = 16
    free_energy: FreeEnergy | None = None

    def __post_init__(self):
        check_choice("UNCERTAINTY.DISTRIBUTION", self.distribution, DISTRIBUTIONS)
        check_choice("UNCERTAINTY.METHOD", self.method, METHODS)
        if self.num_samples < 1:
            raise ValueError(f"UNCERTAINTY.NUM_SAMPLES is {self.num_samples}: expected a number >= 1")
        if self.free_energy is not None and self.distribution != "logit":
            raise ValueError("UNCERTAINTY.FREE_ENERGY needs UNCERTAINTY.DISTRIBUTION 'logit': its q is on the logits")


@dataclass(frozen=True)
class LossSettings:
    """Settings of one head's loss (E1-E8). ``divisor`` is the mask head's, ``activation`` the box head's alone: mask
    pixels are always ``sigmoid``."""

    activation: str = "softmax"
    gamma: float = 2.0
    negative_weight: float = 1.0
    refinement: Refinement | None = None
    divisor: str = "pixels"
    uncertainty: Uncertainty | None = None

    def __post_init__(self):
        check_choice("ACTIVATION", self.activation, ACTIVATIONS)
        check_choice("DIVISOR", self.divisor, MASK_DIVISORS)
        check_non_negative("GAMMA", self.gamma)
        check_non_negative("NEGATIVE_WEIGHT", self.negative_weight)
        if self.activation == "softmax" and self.uncertainty is not None:
            self._check_softmax(self.uncertainty)

    @property
    def even(self) -> float:
        """The logit (or, of the truncated Gaussian, the mean) at which the probability is 1/2."""
        return 0.5 if self.uncertainty is not None and self.uncertainty.distribution == "truncated" else 0.0

    @staticmethod
    def _check_softmax(uncertainty: Uncertainty) -> None:
        """The logits of a softmax depend on each other: no integral over one of them alone."""
        if uncertainty.distribution != "logit":
            raise ValueError("UNCERTAINTY.DISTRIBUTION 'truncated' needs ACTIVATION 'sigmoid'")
        if uncertainty.method == "quadrature":
            raise ValueError("UNCERTAINTY.METHOD 'quadrature' needs ACTIVATION 'sigmoid': use probit or monte_carlo")
        if uncertainty.free_energy is not None and uncertainty.free_energy.method == "quadrature":
            raise ValueError("UNCERTAINTY.FREE_ENERGY.METHOD 'quadrature' needs ACTIVATION 'sigmoid': use monte_carlo")


CROSS_ENTROPY = LossSettings(activation="softmax", gamma=0.0)
"""Plain cross-entropy (softmax over boxes, binary over mask pixels): what Detectron2's own heads minimise."""
