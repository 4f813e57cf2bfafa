"""E3: the refined generalized focal loss as the heads call it: focal terms x class weights x g, and what divides them.

The sums of a batch and their division are two steps, so that several workers can agree on the divisor in between:
with it, the averaged gradients of k workers are those of one worker with the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .focal import ACTIVATIONS, binary_focal_loss, check_choice, generalized_focal_loss
from .refinement import DIRECTIONS, METRICS, refinement_weight

LOSSES = ("reg", "cross_entropy")
MASK_DIVISORS = ("pixels", "weights")


@dataclass(frozen=True)
class Refinement:
    """Settings of g (E4): see :func:`refinement_weight` and :func:`box_class_distance`."""

    beta: float = 10.0
    delta: float = 0.15
    direction: str = "near"
    metric: str = "center"
    renormalize: bool = True

    def __post_init__(self):
        check_choice("REFINEMENT.DIRECTION", self.direction, DIRECTIONS)
        check_choice("REFINEMENT.METRIC", self.metric, METRICS)
        if self.beta < 0:
            raise ValueError(f"REFINEMENT.BETA is {self.beta}: expected a number >= 0")


@dataclass(frozen=True)
class LossSettings:
    """Settings of one head's loss (E1-E4). ``activation`` is the box head's, ``divisor`` the mask head's alone."""

    activation: str = "softmax"
    gamma: float = 2.0
    negative_weight: float = 1.0
    refinement: Refinement | None = None
    divisor: str = "pixels"

    def __post_init__(self):
        check_choice("ACTIVATION", self.activation, ACTIVATIONS)
        check_choice("DIVISOR", self.divisor, MASK_DIVISORS)
        for key, value in (("GAMMA", self.gamma), ("NEGATIVE_WEIGHT", self.negative_weight)):
            if value < 0:
                raise ValueError(f"{key} is {value}: expected a number >= 0")


CROSS_ENTROPY = LossSettings(activation="softmax", gamma=0.0)
"""Plain cross-entropy (softmax over boxes, binary over mask pixels): what Detectron2's own heads minimise."""


class Terms(NamedTuple):
    """One worker's sums over a batch: float scalars, of which only ``loss`` carries a gradient."""

    loss: Tensor  # sum of weight x focal term x g
    weight: Tensor  # sum of the weights
    refinement: Tensor  # sum of g over the terms
    count: Tensor  # number of terms that g was summed over
    foreground: Tensor  # number of foreground samples


def box_terms(
    logits: Tensor,
    targets: Tensor,
    settings: LossSettings,
    class_weight: Tensor | None = None,
    distance: Tensor | None = None,
) -> Terms:
    """Sums of E3 over the ROIs of a batch.

    Args:
        logits: (N, C) for ``sigmoid``, (N, C + 1) for ``softmax``.
        targets: (N,) class indices in [0, C], C = background.
        settings: of the box head.
        class_weight: (C,) or None for 1.
        distance: (N, C) of :func:`box_class_distance`; needed when ``settings.refinement`` is set.

    Raises:
        ValueError: refinement is on and ``distance`` is None.
    """
    num_classes = logits.shape[1] - (settings.activation == "softmax")
    foreground = targets < num_classes
    g = None
    if settings.refinement is not None:
        if distance is None:
            raise ValueError("refinement is on: expected the (N, C) distances of box_class_distance, got None")
        if settings.activation == "softmax":
            g = _g(_row_distance(distance, targets), foreground, settings.refinement)
        else:
            positive = targets[:, None] == torch.arange(num_classes, device=targets.device)
            g = _g(distance, positive, settings.refinement)
    losses = generalized_focal_loss(
        logits,
        targets,
        class_weight=class_weight,
        gamma=settings.gamma,
        negative_weight=settings.negative_weight,
        activation=settings.activation,
        refinement=g,
    )
    weights = losses.new_full((num_classes + 1,), settings.negative_weight)
    weights[:-1] = 1.0 if class_weight is None else class_weight.to(weights)
    return _terms(losses, weights[targets].sum(), g, foreground.sum())


def mask_terms(
    logits: Tensor,
    masks: Tensor,
    classes: Tensor,
    settings: LossSettings,
    class_weight: Tensor | None = None,
    distance: Tensor | None = None,
) -> Terms:
    """Sums of E2/E3 over the mask pixels of a batch's foreground ROIs.

    Args:
        logits: (R, H, W), of each ROI's own class.
        masks: (R, H, W) bool.
        classes: (R,) class indices into ``class_weight``.
        settings: of the mask head.
        class_weight: one weight a class, from the segmentation counts, or None for 1.
        distance: (R, H, W) of :func:`mask_distance`; needed when ``settings.refinement`` is set.

    Raises:
        ValueError: refinement is on and ``distance`` is None.
    """
    g = None
    if settings.refinement is not None:
        if distance is None:
            raise ValueError("refinement is on: expected the (R, H, W) distances of mask_distance, got None")
        g = _g(distance, masks, settings.refinement)
    weight = None if class_weight is None else class_weight.to(logits.device, torch.float32)[classes]
    losses = binary_focal_loss(
        logits,
        masks,
        weight=None if weight is None else weight[:, None, None],
        gamma=settings.gamma,
        negative_weight=settings.negative_weight,
        refinement=g,
    )
    roi_weight = losses.new_tensor(float(len(classes))) if weight is None else weight.sum()
    pixels = logits.shape[1] * logits.shape[2]
    return _terms(losses, roi_weight * pixels, g, losses.new_tensor(float(len(classes))))


def divide(
    terms: Terms,
    by: str,
    *,
    renormalize: bool = False,
    average: Callable[[Tensor], Tensor] | None = None,
    smooth: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The loss of a batch: its sum over the divisor, which all workers share.

    Args:
        terms: of :func:`box_terms` or :func:`mask_terms`.
        by: ``foreground`` (sigmoid boxes, E1), ``weights`` (softmax boxes, E1) or ``pixels`` (masks, E2).
        renormalize: divide by the mean of g as well (E4).
        average: mean of a tensor over the workers; None for one worker. Called exactly once, whatever the batch
            holds: a worker without objects must not leave the others waiting.
        smooth: of the divisor over the iterations, e.g. a running mean; None for none.

    Returns:
        scalar, 0 and attached to the logits where the batch holds nothing.
    """
    shared = torch.stack([x.detach().to(terms.loss.dtype) for x in terms[1:]])
    weight, refinement, count, foreground = (shared if average is None else average(shared)).unbind()
    divisor = {"foreground": foreground, "weights": weight, "pixels": count}[by]
    if smooth is not None:
        divisor = smooth(divisor)
    # Below one foreground ROI the divisor stays 1; a sum of weights or pixels is 0 only where the loss is, too.
    loss = terms.loss / divisor.clamp(min=1.0 if by == "foreground" else torch.finfo(divisor.dtype).eps)
    if renormalize:
        loss = loss * (count / refinement.clamp(min=torch.finfo(refinement.dtype).eps)).clamp(max=1e4)
    return loss


def _g(distance: Tensor, positive: Tensor, refinement: Refinement) -> Tensor:
    with torch.no_grad():
        return refinement_weight(
            distance,
            beta=refinement.beta,
            delta=refinement.delta,
            direction=refinement.direction,
            positive=positive,
        )


def _row_distance(distance: Tensor, targets: Tensor) -> Tensor:
    """(N,) from (N, C): a foreground row's own class, a background row's nearest object of any class (E4)."""
    if distance.shape[1] == 0:
        return distance.new_full((len(distance),), float("inf"))
    return torch.cat([distance, distance.amin(dim=1, keepdim=True)], dim=1).gather(1, targets[:, None]).squeeze(1)


def _terms(losses: Tensor, weight: Tensor, g: Tensor | None, foreground: Tensor) -> Terms:
    count = losses.new_tensor(float(losses.numel()))
    return Terms(losses.sum(), weight.detach(), count if g is None else g.sum(), count, foreground)
