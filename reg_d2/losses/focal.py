"""E1, E2: the generalized focal loss, with sigmoid and softmax activation.

Shape shorthand:
    N: samples (ROIs, or pixels)
    C: object classes; the background is not one of them and carries the index C as a target
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = ("sigmoid", "softmax")
REDUCTIONS = ("none", "sum", "mean")


def generalized_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weight: Tensor | None = None,
    gamma: float = 2.0,
    negative_weight: float = 1.0,
    activation: str = "sigmoid",
    refinement: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    """Generalized focal loss of class-index targets (E1; with ``refinement`` E3).

    ``sigmoid``: each of the C logits is a one-vs-all problem,
        l_ic = w_ic (1 - p_t)^gamma (-log p_t) g_ic,  p_t = y p + (1 - y)(1 - p),
    with w_ic = a_c for the positives (y = 1) and ``negative_weight`` for the negatives.
    ``softmax``: C + 1 logits (last: background), only the true column t enters,
        l_i = w_i (1 - p_it)^gamma (-log p_it) g_i,
    with w_i = a_t for objects and ``negative_weight`` for the background: class weights never touch it.

    Args:
        logits: (N, C) for ``sigmoid``, (N, C + 1) for ``softmax``; any float dtype, any value up to +-100 and beyond.
        targets: (N,) integer class indices in [0, C]; C is the background.
        class_weight: (C,) a_c >= 0, or None for 1.
        gamma: focusing parameter >= 0; 0 gives (weighted) cross-entropy.
        negative_weight: weight >= 0 of the negatives (``sigmoid``) or of background rows (``softmax``).
        activation: ``sigmoid`` or ``softmax``.
        refinement: g >= 0. ``sigmoid``: broadcastable to (N, C). ``softmax``: (N,), one value a row; or (N, C + 1),
            of which the true column is taken; or (N, C), where a background row takes its largest value.
        reduction: ``none``, ``sum``, or ``mean`` over all elements (0 on empty input).

    Returns:
        float32 (float64 for float64 logits): (N, C) for ``sigmoid`` or (N,) for ``softmax`` under ``none``, else a
        scalar. Attached to ``logits`` even when N = 0.

    Raises:
        ValueError: an unknown choice, a negative gamma, or shapes that do not fit, each with what was expected.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017; paper sections 2.1, A.2, A.10.2 (indicator).
    """
    _check(logits, targets, class_weight, gamma, activation, reduction)
    logits = _at_least_float32(logits)
    targets = targets.long()
    num_classes = logits.shape[1] - (activation == "softmax")
    if class_weight is not None:
        class_weight = class_weight.to(logits)
    if activation == "sigmoid":
        loss = _sigmoid_terms(logits, targets, class_weight, gamma, negative_weight)
        if refinement is not None:
            loss = loss * refinement.to(loss.dtype)
    else:
        loss = _softmax_terms(logits, targets, class_weight, gamma, negative_weight)
        if refinement is not None:
            loss = loss * _row_refinement(refinement.to(loss.dtype), targets, num_classes)
    return _reduce(loss, reduction)


def binary_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    gamma: float = 2.0,
    negative_weight: float = 1.0,
    refinement: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    """Binary focal loss of mask pixels (E2; with ``refinement`` E3), elementwise.

    l = w n (1 - p_t)^gamma (-log p_t) g, with n = 1 on foreground pixels and ``negative_weight`` elsewhere.

    Args:
        logits: (R, H, W) or any shape, float.
        targets: same shape, bool or {0, 1}.
        weight: broadcastable to ``logits``: a_c of each ROI's class, e.g. (R, 1, 1).
        gamma, negative_weight, reduction: as in :func:`generalized_focal_loss`.
        refinement: g, broadcastable to ``logits``.

    Returns:
        float32 of the shape of ``logits`` under ``none``, else a scalar.

    Raises:
        ValueError: shapes differ, or an unknown reduction.
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}: expected one target per logit"
        )
    check_choice("reduction", reduction, REDUCTIONS)
    _check_gamma(gamma)
    logits = _at_least_float32(logits)
    positive = targets > 0.5 if targets.is_floating_point() else targets.bool()
    loss = _focal_term(torch.where(positive, logits, -logits), gamma)
    if negative_weight != 1.0:
        loss = torch.where(positive, loss, loss * negative_weight)
    if weight is not None:
        loss = loss * weight.to(loss.dtype)
    if refinement is not None:
        loss = loss * refinement.to(loss.dtype)
    return _reduce(loss, reduction)


def _focal_term(z: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma (-log p) for p = sigmoid(z), from log-probabilities so that nothing saturates."""
    nll = F.softplus(-z)
    if gamma == 0:
        return nll
    # (1 - p)^gamma = exp(gamma log sigmoid(-z)): finite slope where p -> 1, unlike pow at 0.
    return nll * torch.exp(-gamma * F.softplus(z))


def _sigmoid_terms(logits, targets, class_weight, gamma, negative_weight):
    classes = torch.arange(logits.shape[1], device=logits.device)
    positive = targets[:, None] == classes
    loss = _focal_term(torch.where(positive, logits, -logits), gamma)
    a = logits.new_ones(logits.shape[1]) if class_weight is None else class_weight
    return loss * torch.where(positive, a, a.new_tensor(negative_weight))


def _softmax_terms(logits, targets, class_weight, gamma, negative_weight):
    log_p = F.log_softmax(logits, dim=1)
    column = targets[:, None]
    loss = -log_p.gather(1, column).squeeze(1)
    if gamma != 0:
        # log(1 - p_t) is the log-sum-exp of the other columns: exact where p_t -> 1, where 1 - exp(log p_t) is not.
        others = log_p.scatter(1, column, float("-inf"))
        loss = loss * torch.exp(gamma * torch.logsumexp(others, dim=1))
    a = logits.new_ones(logits.shape[1])
    if class_weight is not None:
        a[:-1] = class_weight
    a[-1] = negative_weight
    return loss * a[targets]


def _row_refinement(refinement: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """One g a row (N,) from (N,), (N, C + 1) or (N, C)."""
    if refinement.dim() == 1:
        return refinement
    if refinement.shape[1] == num_classes:
        background = refinement.amax(dim=1, keepdim=True) if num_classes else refinement.new_ones(len(refinement), 1)
        refinement = torch.cat([refinement, background], dim=1)
    if refinement.shape[1] != num_classes + 1:
        raise ValueError(
            f"refinement {tuple(refinement.shape)}: for softmax expected (N,), (N, {num_classes}) or "
            f"(N, {num_classes + 1})"
        )
    return refinement.gather(1, targets[:, None]).squeeze(1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" or loss.numel() == 0 else loss.mean()


def check_choice(what: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise ValueError, with the valid values, for a value that is not among them."""
    if value not in valid:
        raise ValueError(f"{what} {value!r} is unknown: choose one of {', '.join(valid)}")


def _check_gamma(gamma: float) -> None:
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}: expected a number >= 0")


def _check(logits, targets, class_weight, gamma, activation, reduction):
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("reduction", reduction, REDUCTIONS)
    _check_gamma(gamma)
    columns = "C" if activation == "sigmoid" else "C + 1"
    if logits.dim() != 2:
        raise ValueError(f"logits {tuple(logits.shape)}: expected (N, {columns}) for {activation}")
    if targets.shape != logits.shape[:1] or targets.is_floating_point():
        raise ValueError(
            f"targets {tuple(targets.shape)} {targets.dtype}: expected ({logits.shape[0]},) integer class indices"
        )
    num_classes = logits.shape[1] - (activation == "softmax")
    if class_weight is not None and class_weight.shape != (num_classes,):
        raise ValueError(
            f"class_weight {tuple(class_weight.shape)}: expected ({num_classes},), one weight per object class; "
            "the background has none"
        )
