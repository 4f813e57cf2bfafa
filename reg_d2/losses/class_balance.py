"""E9, E10, E11: class weights and the imbalance ratio, from annotation counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

SCHEMES = ("inverse_frequency", "sqrt_inverse_frequency", "effective_number", "uniform")


def class_weights(
    counts: Sequence[float] | Tensor,
    scheme: str | Sequence[float] = "inverse_frequency",
    normalize: bool = False,
    *,
    beta: float = 0.999,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Weight a_c of each class from its number of annotations n_c (E9, E10); N is the sum of the counts.

    inverse_frequency: N / n_c; sqrt_inverse_frequency: sqrt(N / n_c); uniform: 1;
    effective_number: (1 - beta) / (1 - beta^n_c) (Cui et al., Class-Balanced Loss, 2019).

    Args:
        counts: (C,) numbers >= 0.
        scheme: one of the names above, or a list of C weights >= 0, taken as they are.
        normalize: scale to mean 1 over the classes.
        beta: of ``effective_number``, in [0, 1).
        names: C class names, for the error messages.

    Returns:
        (C,) float32, finite, > 0 (>= 0 for a list).

    Raises:
        ValueError: unknown scheme; a count that is negative or not finite; a class without any annotation, by name,
            unless the scheme is ``uniform`` or a list, which do not look at the counts; a list of another length.
    """
    counts = torch.as_tensor(counts, dtype=torch.float64).cpu()
    if counts.dim() != 1:
        raise ValueError(f"counts {tuple(counts.shape)}: expected (C,), one number per class")
    label = [repr(name) for name in names] if names is not None else [f"class {c}" for c in range(len(counts))]
    broken = [c for c, n in enumerate(counts.tolist()) if not 0 <= n < float("inf")]
    if broken:
        raise ValueError(f"count of {label[broken[0]]} is {counts[broken[0]].item()}: expected a finite number >= 0")
    if not isinstance(scheme, str):
        weights = _given_weights(scheme, len(counts))
    elif scheme == "uniform":
        weights = torch.ones_like(counts)
    elif scheme in SCHEMES:
        empty = [label[c] for c, n in enumerate(counts.tolist()) if n == 0]
        if empty:
            raise ValueError(
                f"no annotation of {', '.join(empty)}: {scheme} has no weight for that. Remove the class from the "
                "data set's categories, add annotations, or use the scheme 'uniform' or a list of weights"
            )
        weights = _counted_weights(counts, scheme, beta)
    else:
        raise ValueError(f"scheme {scheme!r} is unknown: choose one of {', '.join(SCHEMES)}, or give a list")
    if normalize and len(weights):
        weights = weights / weights.mean()
    return weights.float()


def imbalance_ratio(counts: Sequence[float] | Tensor) -> float:
    """rho = max n_c / min n_c (E11), inf when a class has no annotation; 1.0 without classes."""
    values = torch.as_tensor(counts, dtype=torch.float64).flatten()
    if len(values) == 0:
        return 1.0
    low, high = values.min().item(), values.max().item()
    return high / low if low > 0 else float("inf")


def _counted_weights(counts: Tensor, scheme: str, beta: float) -> Tensor:
    if scheme == "effective_number":
        if not 0 <= beta < 1:
            raise ValueError(f"beta of effective_number is {beta}: expected a number in [0, 1)")
        return (1 - beta) / (1 - beta**counts)
    weights = counts.sum() / counts
    return weights if scheme == "inverse_frequency" else weights.sqrt()


def _given_weights(values: Sequence[float], num_classes: int) -> Tensor:
    weights = torch.as_tensor(values, dtype=torch.float64).cpu()
    if weights.shape != (num_classes,):
        raise ValueError(f"{weights.numel()} class weights given: expected {num_classes}, one per class")
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise ValueError(f"class weights {weights.tolist()}: expected finite numbers >= 0, not all of them 0")
    return weights
