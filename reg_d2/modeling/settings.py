"""From config nodes to what the heads need: loss settings, class weights, mask channels."""

import logging

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..losses import (
    CROSS_ENTROPY,
    LOG_VARIANCE_RANGE,
    LOSSES,
    SCHEMES,
    FreeEnergy,
    LossSettings,
    Refinement,
    Uncertainty,
    class_weights,
)
from ..optim import PrimalDual
from .box_loss import BOX_LOSSES, BoxLoss

logger = logging.getLogger(__name__)


def check_range(key: str, value: float, interval: str, note: str = "") -> None:
    """Refuse a number outside an interval.

    Args:
        key: below ``MODEL.REG``.
        value: of the key.
        interval: as it is written: ``[0, 1)`` holds 0 and not 1; an end may be inf.
        note: what the message says after it.

    Raises:
        ValueError: the value is outside, or no number; the message has key, value and interval.
    """
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if not (above and below):
        raise ValueError(f"MODEL.REG.{key} is {value}: expected a number in {interval}{note}")


def loss_settings(node: CfgNode, task: str) -> LossSettings:
    """Settings of ``MODEL.REG.BOX`` or ``MODEL.REG.MASK``; ``task`` is the node's name, for the messages.

    A switch that is on and does nothing, because the one that it belongs to is off, is warned about.

    Raises:
        ValueError: a key has a value that is not among the valid ones.
    """
    valid = (*LOSSES, *(BOX_LOSSES if task == "BOX" else ()))
    if node.LOSS not in valid:
        more = "; more are registered by the projects that PROJECTS names" if task == "BOX" else ""
        raise ValueError(f"MODEL.REG.{task}.LOSS {node.LOSS!r} is unknown: choose one of {', '.join(valid)}{more}")
    if node.LOSS != "reg":
        return CROSS_ENTROPY
    _warn_of_idle_switches(node, task)
    if node.UNCERTAINTY.ENABLED:  # outside the range, the variance head would never have a gradient
        low, high = LOG_VARIANCE_RANGE
        key = f"{task}.UNCERTAINTY.INITIAL_LOG_VARIANCE"
        check_range(key, node.UNCERTAINTY.INITIAL_LOG_VARIANCE, f"[{low:g}, {high:g}]")
    try:
        # Made, and so checked, whether it is on or not.
        refinement = Refinement(
            beta=node.REFINEMENT.BETA,
            delta=node.REFINEMENT.DELTA,
            direction=node.REFINEMENT.DIRECTION,
            metric=node.REFINEMENT.get("METRIC", "center"),
            floor=node.REFINEMENT.FLOOR,
            renormalize=node.REFINEMENT.RENORMALIZE,
            learned=node.REFINEMENT.LEARNED,
        )
        return LossSettings(
            activation=node.get("ACTIVATION", "sigmoid"),  # mask pixels are binary
            gamma=node.GAMMA,
            negative_weight=node.NEGATIVE_WEIGHT,
            refinement=refinement if node.REFINEMENT.ENABLED else None,
            divisor=node.get("DIVISOR", "pixels"),
            uncertainty=_uncertainty(node.UNCERTAINTY) if node.UNCERTAINTY.ENABLED else None,
        )
    except ValueError as error:
        raise ValueError(f"MODEL.REG.{task}.{error}") from None


def _warn_of_idle_switches(node: CfgNode, task: str) -> None:
    switches = {
        "UNCERTAINTY.FREE_ENERGY.ENABLED": node.UNCERTAINTY.FREE_ENERGY.ENABLED,
        "UNCERTAINTY.OUTPUT_STD": node.UNCERTAINTY.get("OUTPUT_STD", False),
        "REFINEMENT.LEARNED": node.REFINEMENT.LEARNED,
    }
    for key, on in switches.items():
        above = key.split(".")[0]
        if on and not node[above].ENABLED:
            prefix = f"MODEL.REG.{task}."
            logger.warning(f"{prefix}{key} is on and does nothing: {prefix}{above}.ENABLED is False")


def _uncertainty(node: CfgNode) -> Uncertainty:
    energy = node.FREE_ENERGY
    return Uncertainty(
        distribution=node.DISTRIBUTION,
        method=node.METHOD,
        num_samples=node.NUM_SAMPLES,
        free_energy=FreeEnergy(
            weight=energy.WEIGHT,
            warmup=energy.WARMUP_ITERS,
            prior_std=energy.PRIOR_STD,
            method=energy.METHOD,
            num_samples=energy.NUM_SAMPLES,
        )
        if energy.ENABLED
        else None,
    )


def box_loss(cfg: CfgNode) -> BoxLoss | None:
    """What a project registered under ``MODEL.REG.BOX.LOSS``; None for REG and cross-entropy."""
    cls = BOX_LOSSES.get(cfg.MODEL.REG.BOX.LOSS)
    return None if cls is None else cls(cfg)


def box_loss_name(cfg: CfgNode) -> str:
    """What a checkpoint of a config's run says its box loss is.

    ``cross_entropy``, ``reg`` (softmax), ``reg (sigmoid)``, or the name of a project's loss.
    """
    node = cfg.MODEL.REG.BOX
    if node.LOSS in BOX_LOSSES:
        return BOX_LOSSES[node.LOSS].trained_as(cfg)
    return "reg (sigmoid)" if node.LOSS == "reg" and node.ACTIVATION == "sigmoid" else node.LOSS


def primal_dual(cfg: CfgNode, task: str, class_weight: Tensor | None, num_classes: int) -> PrimalDual | None:
    """The multipliers of a head's classes (E12), where they are on.

    Args:
        cfg: the whole config.
        task: ``BOX`` or ``MASK``.
        class_weight: (num_classes,) or None for 1.
        num_classes: that the head knows: all (boxes), or those with masks.

    Raises:
        ValueError: a rate or momentum out of range.
    """
    node = cfg.MODEL.REG[task].PRIMAL_DUAL
    if not node.ENABLED or cfg.MODEL.REG[task].LOSS != "reg":
        return None
    try:
        return PrimalDual(class_weight, num_classes=num_classes, rate=node.RATE, momentum=node.MOMENTUM)
    except ValueError as error:
        raise ValueError(f"MODEL.REG.{task}.PRIMAL_DUAL: {error}") from None


def head_class_weights(cfg: CfgNode, task: str) -> Tensor | None:
    """Class weights (E10) of the box head (one a class) or of the mask head (one a class with masks).

    Args:
        cfg: the whole config, with the classes filled in.
        task: ``BOX`` or ``MASK``.

    Returns:
        (C,) float32, or None where the loss has none: any but REG, or the counts are unknown (a model that is
        built for inference or without data) and the scheme does not need them.

    Raises:
        ValueError: the scheme is unknown, a counted scheme has no counts or a class without annotations.
    """
    node = cfg.MODEL.REG[task]
    names, counts = class_counts(cfg, task)
    scheme = node.CLASS_WEIGHT.SCHEME
    if node.LOSS != "reg" or scheme == "uniform":
        return None
    if scheme not in SCHEMES and scheme != "list":
        raise ValueError(
            f"MODEL.REG.{task}.CLASS_WEIGHT.SCHEME {scheme!r} is unknown: choose one of {', '.join(SCHEMES)}, list"
        )
    if not counts:
        raise ValueError(
            f"MODEL.REG.{task}.CLASS_WEIGHT.SCHEME {scheme!r} needs the training set's counts, and none are set: "
            "build the config with reg_d2.engine.setup, or use the scheme 'uniform'"
        )
    try:
        return class_weights(
            counts,
            node.CLASS_WEIGHT.VALUES if scheme == "list" else scheme,
            normalize=node.CLASS_WEIGHT.NORMALIZE,
            beta=node.CLASS_WEIGHT.EFFECTIVE_NUMBER_BETA,
            names=names,
        )
    except ValueError as error:
        raise ValueError(f"MODEL.REG.{task}.CLASS_WEIGHT: {error}") from None


def start_iteration(cfg: CfgNode, task: str, part: str) -> int:
    """The iteration from which a part of a head's loss acts, from the share of the schedule in its ``START``.

    Args:
        cfg: the whole config.
        task: ``BOX`` or ``MASK``.
        part: ``CLASS_WEIGHT`` (E10) or ``REFINEMENT`` (E4).

    Raises:
        ValueError: START is outside [0, 1), or above 0 with what learns from the first step on: dual ascent, which
            starts from the weights, or a learned refinement.
    """
    node = cfg.MODEL.REG[task]
    share, key = node[part].START, f"{task}.{part}.START"
    never, learner, switch = {
        "CLASS_WEIGHT": ("the scheme 'uniform'", "PRIMAL_DUAL", "ENABLED"),
        "REFINEMENT": ("REFINEMENT.ENABLED False", "REFINEMENT", "LEARNED"),
    }[part]
    check_range(key, share, "[0, 1)", f", a share of the schedule; for none at all, {never}")
    if share > 0 and node[learner][switch]:
        raise ValueError(
            f"MODEL.REG.{key} is {share} with {learner}.{switch}, which learns from the first step on; set one of "
            "them back"
        )
    return round(share * cfg.SOLVER.MAX_ITER)


def class_counts(cfg: CfgNode, task: str) -> tuple[list[str], list[float]]:
    """Names and training counts of the classes that the task's head knows (all, or those with masks).

    Where images are not drawn alike, the counts are those that the sampler is expected to show: a tail that it has
    lifted is not lifted again by the weights.
    """
    reg = cfg.MODEL.REG
    counts = reg[f"SAMPLED_{task}_COUNTS"] or reg[f"{task}_COUNTS"]
    pairs = [(name, n) for name, n in zip(reg.CLASS_NAMES, counts, strict=True) if task == "BOX" or n > 0]
    return [name for name, _ in pairs], [n for _, n in pairs]


def class_prior(cfg: CfgNode) -> Tensor | None:
    """(C,) logit(pi_c) of each class's share pi_c of the training objects (E8), pi_c held in [0.001, 0.999].

    None without counts, or where the box head has no free energy.
    """
    energy = cfg.MODEL.REG.BOX.UNCERTAINTY
    _, counts = class_counts(cfg, "BOX")
    if not (energy.ENABLED and energy.FREE_ENERGY.ENABLED) or not sum(counts):
        return None
    counts = torch.tensor(counts, dtype=torch.float64)
    return torch.logit(counts / counts.sum(), eps=1e-3).float()


def mask_channels(cfg: CfgNode) -> Tensor:
    """(C,) int64: the mask head's channel of each class, -1 for a class that has boxes only.

    Without counts (a model built without data) every class has a channel. With ``CLS_AGNOSTIC_MASK`` the classes
    with masks share channel 0.
    """
    num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    counts = cfg.MODEL.REG.MASK_COUNTS or [1] * num_classes
    if len(counts) != num_classes:
        raise ValueError(
            f"MODEL.REG.MASK_COUNTS has {len(counts)} entries and MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}: "
            "both are filled from the data by reg_d2.engine.setup, leave them alone"
        )
    has_mask = torch.tensor([n > 0 for n in counts])
    channel = torch.zeros(num_classes, dtype=torch.int64)
    if not cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK:
        channel = has_mask.cumsum(0) - 1
    return channel.masked_fill(~has_mask, -1)
