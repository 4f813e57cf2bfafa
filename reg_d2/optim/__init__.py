"""E12, E13, E14: the primal-dual class balance, descent on the sphere, proximal steps."""

from .build import build_optimizer
from .chained import ChainedOptimizer
from .primal_dual import PrimalDual
from .proximal import attach_proximal, prox_box, prox_group_l1, prox_l1, prox_l1_box
from .sphere import CosineLinear

__all__ = [
    "ChainedOptimizer",
    "CosineLinear",
    "PrimalDual",
    "attach_proximal",
    "build_optimizer",
    "prox_box",
    "prox_group_l1",
    "prox_l1",
    "prox_l1_box",
]
