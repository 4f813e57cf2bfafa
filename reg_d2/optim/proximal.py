"""E14: proximal operators in closed form, and an optimiser that applies them after its step.

prox_R(v) = argmin_u  R(u) + |u - v|^2 / 2;  ``step`` is the weight of R times the learning rate.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

Prox = Callable[[Tensor, float], Tensor]


def prox_l1(v: Tensor, step: float | Tensor, center: float | Tensor = 0.0) -> Tensor:
    """Soft threshold: prox of R(u) = step |u - center|_1 (E14).

    Args:
        v: any shape, float.
        step: >= 0; a number or broadcast against v.
        center: a number or broadcast against v.

    Returns:
        shape of v; exactly ``center`` where |v - center| <= step.
    """
    offset = v - center
    return center + offset.sign() * (offset.abs() - step).clamp(min=0)


def prox_group_l1(v: Tensor, step: float | Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """Block soft threshold: prox of R(u) = step * sum over groups of |u_group|_2 (E14); whole groups become 0.

    Args:
        v: any shape, float.
        step: >= 0.
        dim: axes along which one group extends; -1: each row of a matrix is a group.

    Returns:
        shape of v.
    """
    norm = torch.linalg.vector_norm(v, dim=dim, keepdim=True)
    scale = (norm - step).clamp(min=0) / torch.where(norm > 0, norm, 1.0)
    return v * scale


def prox_box(v: Tensor, low: float, high: float) -> Tensor:
    """Projection on the box low <= u <= high: prox of its indicator, whatever the step (E14).

    Args:
        v: any shape, float.
        low, high: numbers, low <= high; an infinite one is no bound.

    Raises:
        ValueError: low > high.
    """
    if low > high:
        raise ValueError(f"the box [{low}, {high}] is empty: expected low <= high")
    return v.clamp(low, high)


def prox_l1_box(v: Tensor, step: float | Tensor, center: float | Tensor, low: float, high: float) -> Tensor:
    """Prox of R(u) = step |u - center|_1 + indicator of low <= u <= high (E14): soft threshold, then clip.

    A prox of a sum is not the composition of proxes in general. Here it is: R is separable, so each element minimises
    a strictly convex function of one variable over an interval, and such a function grows on both sides of its free
    minimum; the point of the interval nearest to that minimum is the answer.

    Args:
        v, step, center: as in :func:`prox_l1`. With a center in the box the elements that are not pulled away rest
            there; the formula holds for any center.
        low, high: as in :func:`prox_box`.
    """
    return prox_box(prox_l1(v, step, center), low, high)


def attach_proximal(optimizer: Optimizer, rules: Mapping[Tensor, Prox], names: Mapping[Tensor, str] | None = None):
    """Apply a proximal operator to parameters after each step of the optimiser (E14).

        theta <- prox(theta after the step, lr of its group at that step)

    A step that a gradient scaler skips has no proximal step either. With momentum m the velocity settles at
    gradient / (1 - m), so that a rule prox(v, lr * s) minimises f + (1 - m) s R: for a strength of s, write
    s / (1 - m) in the rule. A box is kept whatever the momentum. Weight decay comes on top: give such parameters none.

    Args:
        optimizer: any torch optimiser, ChainedOptimizer included; the rules stay attached to it over
            ``load_state_dict`` and are not part of its state.
        rules: parameter -> function of its value and the learning rate that returns the new value, same shape.
        names: parameter -> name, for the error message.

    Raises:
        ValueError: a parameter that is in no group of the optimiser, by name.
    """
    group_of = {p: i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
    for number, parameter in enumerate(rules):
        if parameter not in group_of:
            name = (names or {}).get(parameter, f"number {number} of the rules, shape {tuple(parameter.shape)}")
            raise ValueError(
                f"parameter {name} has a proximal rule and is in no group of the optimiser: is it frozen, or was it "
                "replaced after the optimiser was built?"
            )
    pending = False

    def before_step(*_):
        nonlocal pending
        pending = True

    @torch.no_grad()
    def after_step(optimizer, *_):
        # Detectron2's clipping class calls the step of its base class, and torch may run the hooks around both.
        nonlocal pending
        if not pending:
            return
        pending = False
        for parameter, prox in rules.items():
            # By its index: load_state_dict replaces the group.
            parameter.copy_(prox(parameter, optimizer.param_groups[group_of[parameter]]["lr"]))

    optimizer.register_step_pre_hook(before_step)
    optimizer.register_step_post_hook(after_step)
