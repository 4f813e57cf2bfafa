"""E3: the refined generalized focal loss as the heads call it: focal terms x class weights x g, and what divides them.

With uncertain logits (E6) the focal term is that of the marginal probability (E7), or its expectation (E8).

The sums of a batch and their division are two steps, so that several workers can agree on the divisor in between:
with it, the averaged gradients of k workers are those of one worker with the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .focal import binary_focal_loss, generalized_focal_loss
from .refinement import refinement_weight
from .settings import LossSettings, Refinement
from .uncertainty import logit_nodes, marginal_log_softmax, marginal_logit


class Terms(NamedTuple):
    """One worker's sums over a batch: float scalars. ``loss`` carries a gradient; ``refinement`` where g is learned."""

    loss: Tensor  # sum of weight x focal term x g
    weight: Tensor  # sum of the weights
    refinement: Tensor  # sum of g over the terms
    count: Tensor  # number of terms that g was summed over
    foreground: Tensor  # number of foreground samples


class LearnedRefinement(NamedTuple):
    """beta and delta of each class as parameters (E14): (C,) float each."""

    beta: Tensor
    delta: Tensor

    def at(self, index: Tensor) -> "LearnedRefinement":
        """Those of some classes; the index C (background) gets the mean of the classes, without a gradient."""
        rows = [torch.cat([x, x.detach().mean(dim=0, keepdim=True)]) for x in self]
        return LearnedRefinement(*(x[index] for x in rows))


def box_terms(
    logits: Tensor,
    targets: Tensor,
    settings: LossSettings,
    class_weight: Tensor | None = None,
    distance: Tensor | None = None,
    log_variance: Tensor | None = None,
    learned: LearnedRefinement | None = None,
) -> Terms:
    """Sums of E3 over the ROIs of a batch.

    Args:
        logits: (N, C) for ``sigmoid``, (N, C + 1) for ``softmax``; with uncertainty their means.
        targets: (N,) class indices in [0, C], C = background.
        settings: of the box head.
        class_weight: (C,) or None for 1.
        distance: (N, C) of :func:`box_class_distance`; needed when ``settings.refinement`` is set.
        log_variance: like ``logits``; needed when ``settings.uncertainty`` is set.
        learned: (C,) beta and delta in place of those of ``settings.refinement``.

    Raises:
        ValueError: refinement is on and ``distance`` is None, or uncertainty is on and ``log_variance`` is None.
    """
    num_classes = logits.shape[1] - (settings.activation == "softmax")
    foreground = targets < num_classes
    g = None
    if settings.refinement is not None:
        if distance is None:
            raise ValueError("refinement is on: expected the (N, C) distances of box_class_distance, got None")
        if settings.activation == "softmax":
            rows = None if learned is None else learned.at(targets)
            g = _g(_row_distance(distance, targets), foreground, settings.refinement, rows)
        else:
            positive = targets[:, None] == torch.arange(num_classes, device=targets.device)
            g = _g(distance, positive, settings.refinement, learned)

    def focal(z: Tensor) -> Tensor:
        return generalized_focal_loss(
            z,
            targets,
            class_weight=class_weight,
            gamma=settings.gamma,
            negative_weight=settings.negative_weight,
            activation=settings.activation,
            refinement=g,
        )

    losses = _under_uncertainty(focal, logits, log_variance, settings)
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
    log_variance: Tensor | None = None,
    learned: LearnedRefinement | None = None,
) -> Terms:
    """Sums of E2/E3 over the mask pixels of a batch's foreground ROIs.

    Args:
        logits: (R, H, W), of each ROI's own class; with uncertainty their means.
        masks: (R, H, W) bool.
        classes: (R,) class indices into ``class_weight``.
        settings: of the mask head.
        class_weight: one weight a class, from the segmentation counts, or None for 1.
        distance: (R, H, W) of :func:`mask_distance`; needed when ``settings.refinement`` is set.
        log_variance: like ``logits``; needed when ``settings.uncertainty`` is set.
        learned: beta and delta, one a class of ``class_weight``, in place of those of ``settings.refinement``.

    Raises:
        ValueError: refinement is on and ``distance`` is None, or uncertainty is on and ``log_variance`` is None.
    """
    g = None
    if settings.refinement is not None:
        if distance is None:
            raise ValueError("refinement is on: expected the (R, H, W) distances of mask_distance, got None")
        if learned is not None:
            learned = LearnedRefinement(*(x[classes, None, None] for x in learned))
        g = _g(distance, masks, settings.refinement, learned)
    weight = None if class_weight is None else class_weight.to(logits.device, torch.float32)[classes]

    def focal(z: Tensor) -> Tensor:
        return binary_focal_loss(
            z,
            masks,
            weight=None if weight is None else weight[:, None, None],
            gamma=settings.gamma,
            negative_weight=settings.negative_weight,
            refinement=g,
        )

    losses = _under_uncertainty(focal, logits, log_variance, settings)
    roi_weight = losses.new_tensor(float(len(classes))) if weight is None else weight.sum()
    pixels = logits.shape[1] * logits.shape[2]
    return _terms(losses, roi_weight * pixels, g, losses.new_tensor(float(len(classes))))


@torch.no_grad()
def box_class_losses(
    logits: Tensor, targets: Tensor, settings: LossSettings, log_variance: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What E12 balances: the focal terms of each class's positives, without class weights and g.

    Args:
        logits, targets, settings, log_variance: as in :func:`box_terms`.

    Returns:
        (C,) sums and (C,) numbers of positives, float32.
    """
    num_classes = logits.shape[1] - (settings.activation == "softmax")
    foreground = targets < num_classes
    classes = targets[foreground]

    def focal(z: Tensor) -> Tensor:
        losses = generalized_focal_loss(z, classes, gamma=settings.gamma, activation=settings.activation)
        return losses if losses.dim() == 1 else losses.gather(1, classes[:, None]).squeeze(1)

    chosen = None if log_variance is None else log_variance[foreground]
    return _sums_by_class(_under_uncertainty(focal, logits[foreground], chosen, settings), classes, num_classes)


@torch.no_grad()
def mask_class_losses(
    logits: Tensor,
    masks: Tensor,
    classes: Tensor,
    num_classes: int,
    settings: LossSettings,
    log_variance: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`box_class_losses`, of the ROIs of each class with masks: an ROI's loss is the mean over its pixels."""

    def focal(z: Tensor) -> Tensor:
        return binary_focal_loss(z, masks, gamma=settings.gamma)

    losses = _under_uncertainty(focal, logits, log_variance, settings)
    return _sums_by_class(losses.flatten(1).mean(dim=1), classes, num_classes)


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
    shared = torch.stack([x.detach().to(terms.loss.dtype) for x in terms])
    total, weight, refinement, count, foreground = (shared if average is None else average(shared)).unbind()
    divisor = {"foreground": foreground, "weights": weight, "pixels": count}[by]
    if smooth is not None:
        divisor = smooth(divisor)
    # Below one foreground ROI the divisor stays 1; a sum of weights or pixels is 0 only where the loss is, too.
    divisor = divisor.clamp(min=1.0 if by == "foreground" else torch.finfo(divisor.dtype).eps)
    loss = terms.loss / divisor
    if renormalize:
        refinement = refinement.clamp(min=torch.finfo(refinement.dtype).eps)
        scale = (count / refinement).clamp(max=1e4)
        loss = loss * scale
        if terms.refinement.requires_grad:
            # The derivative of 1 / mean(g), without which a learned g would fall to 0; of value 0.
            loss = loss - total * scale / divisor / refinement * (terms.refinement - terms.refinement.detach())
    return loss


def _under_uncertainty(
    focal: Callable[[Tensor], Tensor], logits: Tensor, log_variance: Tensor | None, settings: LossSettings
) -> Tensor:
    """The focal terms of certain logits; at the marginal of uncertain ones (E7); or their expectation (E8)."""
    uncertainty = settings.uncertainty
    if uncertainty is None:
        return focal(logits)
    if log_variance is None:
        raise ValueError("uncertainty is on: expected a log variance for each logit, got None")
    energy = uncertainty.free_energy
    if energy is not None:
        nodes = logit_nodes(
            logits, log_variance, method=energy.method, order=energy.num_samples, num_samples=energy.num_samples
        )
        return sum(weight * focal(z) for weight, z in nodes)
    options = {"method": uncertainty.method, "num_samples": uncertainty.num_samples}
    if settings.activation == "softmax":
        return focal(marginal_log_softmax(logits, log_variance, **options))
    return focal(marginal_logit(logits, log_variance, distribution=uncertainty.distribution, **options))


def _g(distance: Tensor, positive: Tensor, refinement: Refinement, learned: LearnedRefinement | None) -> Tensor:
    beta, delta = (refinement.beta, refinement.delta) if learned is None else learned
    return refinement_weight(
        distance, beta=beta, delta=delta, direction=refinement.direction, floor=refinement.floor, positive=positive
    )


def _sums_by_class(losses: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    sums = losses.new_zeros(num_classes)
    return sums.index_add(0, classes, losses), sums.index_add(0, classes, torch.ones_like(losses))


def _row_distance(distance: Tensor, targets: Tensor) -> Tensor:
    """(N,) from (N, C): a foreground row's own class, a background row's nearest object of any class (E4)."""
    if distance.shape[1] == 0:
        return distance.new_full((len(distance),), float("inf"))
    return torch.cat([distance, distance.amin(dim=1, keepdim=True)], dim=1).gather(1, targets[:, None]).squeeze(1)


def _terms(losses: Tensor, weight: Tensor, g: Tensor | None, foreground: Tensor) -> Terms:
    count = losses.new_tensor(float(losses.numel()))
    return Terms(losses.sum(), weight.detach(), count if g is None else g.sum(), count, foreground)
