"""The optimiser of a run: Detectron2's, Riemannian SGD for parameters on a manifold (E13), proximal steps (E14)."""

import re
from collections.abc import Callable, Iterator
from functools import partial

import torch
from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from geoopt import ManifoldParameter
from geoopt.optim import RiemannianSGD
from torch import nn

from ..losses.settings import check_non_negative
from .chained import ChainedOptimizer
from .proximal import attach_proximal, prox_group_l1, prox_l1, prox_l1_box

# Names and boxes of the refinement's learned parameters (E14).
REFINEMENT_BOXES = {"loss_state.beta": (0.0, float("inf")), "loss_state.delta": (0.0, 1.0)}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Detectron2's optimiser, with Riemannian SGD for the parameters on a manifold (E13) and proximal steps (E14).

        w <- R_w(-lr v),   v the momentum of P_w(gradient)

    P_w is the projection on the tangent space at w, R_w the retraction; v is carried along to the new tangent space.
    Euclidean parameters keep Detectron2's groups and get the same updates, to the bit. Manifold parameters take the
    learning rate of the group that they leave times ``SOLVER.MANIFOLD_LR_FACTOR``, and ``SOLVER.MOMENTUM``,
    ``SOLVER.NESTEROV`` and ``SOLVER.CLIP_GRADIENTS``; no weight decay: on the sphere it has no tangential part. Learned
    beta and delta of the refinement have a group of their own, without weight decay (it would pull them to 0, not to
    their start) and with the learning rate times ``SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR``.

    Returns:
        What ``detectron2.solver.build_optimizer`` returns where the model has no trainable manifold parameter;
        otherwise a ChainedOptimizer of that one and ``geoopt.optim.RiemannianSGD``. Proximal steps are attached.

    Raises:
        ValueError: a factor of a learning rate or a penalty is negative, a penalty has no parameters, or a pattern of
            ``SOLVER.PROXIMAL.PARAMETERS`` matches no parameter, or one that has a rule of its own.
    """
    optimizer = solver.build_optimizer(cfg, model)
    learned = {id(p) for name, p in model.named_parameters() if name.endswith(tuple(REFINEMENT_BOXES))}
    check_non_negative("SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR", cfg.SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR)
    check_non_negative("SOLVER.MANIFOLD_LR_FACTOR", cfg.SOLVER.MANIFOLD_LR_FACTOR)
    for group in _take_out(optimizer, lambda p: id(p) in learned, cfg.SOLVER.PROXIMAL.REFINEMENT_LR_FACTOR):
        optimizer.add_param_group({**group, "weight_decay": 0.0})
    groups = _take_out(optimizer, lambda p: isinstance(p, ManifoldParameter), cfg.SOLVER.MANIFOLD_LR_FACTOR)
    if groups:
        riemannian = maybe_add_gradient_clipping(cfg, RiemannianSGD)(
            groups, lr=cfg.SOLVER.BASE_LR, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV
        )
        if cfg.SOLVER.MOMENTUM > 0:
            # geoopt starts its buffer at the Euclidean gradient, which is not tangent and counts twice in the first
            # step. From 0 the first step is the gradient's, as with torch's SGD.
            for parameter in (p for group in groups for p in group["params"]):
                riemannian.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        optimizer = ChainedOptimizer([optimizer, riemannian])
    rules = dict(_rules(cfg, model))
    if rules:
        attach_proximal(optimizer, rules, {p: name for name, p in model.named_parameters()})
    return optimizer


def _take_out(optimizer: torch.optim.Optimizer, condition: Callable[[nn.Parameter], bool], factor: float) -> list[dict]:
    """Remove the parameters that fulfil a condition; returns their groups: parameters, and learning rate x factor."""
    taken = []
    for group in optimizer.param_groups:
        chosen = [p for p in group["params"] if condition(p)]
        if chosen:
            taken.append({"params": chosen, "lr": group["lr"] * factor})
            group["params"] = [p for p in group["params"] if not condition(p)]
    optimizer.param_groups = [group for group in optimizer.param_groups if group["params"]]
    return taken


def _rules(cfg: CfgNode, model: nn.Module) -> Iterator[tuple[nn.Parameter, Callable]]:
    """Pairs of a parameter and its proximal operator, a function of value and learning rate."""
    node = cfg.SOLVER.PROXIMAL
    for key in ("REFINEMENT_L1", "L1", "GROUP_L1"):
        check_non_negative(f"SOLVER.PROXIMAL.{key}", node[key])
    for key in ("L1", "GROUP_L1"):
        if node[key] and not node.PARAMETERS:
            raise ValueError(
                f"SOLVER.PROXIMAL.{key} is {node[key]}, and SOLVER.PROXIMAL.PARAMETERS names no parameters"
            )
    # With momentum m the velocity settles at gradient / (1 - m): the penalty must grow as much.
    gain = 1.0 / (1.0 - cfg.SOLVER.MOMENTUM)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        for suffix, (low, high) in REFINEMENT_BOXES.items():
            if name.endswith(suffix):
                strength, start = gain * node.REFINEMENT_L1, parameter.detach().clone()
                yield parameter, partial(_l1_box, strength=strength, center=start, low=low, high=high)
    for pattern in node.PARAMETERS:
        names = [name for name in parameters if re.fullmatch(pattern, name) and parameters[name].requires_grad]
        if not names:
            raise ValueError(f"SOLVER.PROXIMAL.PARAMETERS: {pattern!r} matches the full name of no trained parameter")
        for name in names:
            if name.endswith(tuple(REFINEMENT_BOXES)):
                raise ValueError(
                    f"SOLVER.PROXIMAL.PARAMETERS: {pattern!r} matches {name}, a learned beta or delta, which has its "
                    "own rule (SOLVER.PROXIMAL.REFINEMENT_L1): leave it out"
                )
            if isinstance(parameters[name], ManifoldParameter):
                raise ValueError(f"SOLVER.PROXIMAL.PARAMETERS: {name} lies on a manifold, which a penalty would leave")
            yield parameters[name], partial(_sparse, l1=gain * node.L1, group_l1=gain * node.GROUP_L1)


def _l1_box(value, rate, *, strength, center, low, high):
    return prox_l1_box(value, rate * strength, center.to(value.device), low, high)


def _sparse(value, rate, *, l1, group_l1):
    """l1, then the group penalty: the prox of their sum (Friedman et al., sparse group lasso, 2010)."""
    value = prox_l1(value, rate * l1)
    if value.dim() < 2 or not group_l1:
        return value
    return prox_group_l1(value, rate * group_l1, dim=tuple(range(1, value.dim())))
