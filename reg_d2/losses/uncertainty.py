"""E6, E7, E8: Gaussian logits or probabilities, their marginals, spreads, and the divergence from the prior.

Every function computes in float32, or in float64 where an input is float64, and is differentiable.

Shape shorthand:
    N: samples      A: columns of a softmax (classes and background)
    K: quadrature nodes, or Monte Carlo samples
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .focal import check_choice
from .truncated import truncated_moments

METHODS = ("probit", "quadrature", "monte_carlo")
DISTRIBUTIONS = ("logit", "truncated")
LOG_VARIANCE_RANGE = (-10.0, 5.0)

# Gauss-Hermite nodes with which p_hat (1.4e-7; 50 nodes would do) and the standard deviation (9.7e-7) are exact to
# 1e-6 for |mean| <= 8, sigma <= 3; sigma <= 5 takes 128 nodes.
DEFAULT_ORDER = 64


def clamp_log_variance(x: Tensor, low: float = LOG_VARIANCE_RANGE[0], high: float = LOG_VARIANCE_RANGE[1]) -> Tensor:
    """log sigma^2 of a variance head, held in [low, high] (E6): by default sigma in [0.0067, 12.2].

    Args:
        x: any shape, float; half precision is widened. Outside the range the gradient is 0.
    """
    return _widen(x)[0].clamp(low, high)


def marginal_probability(
    mean: Tensor,
    log_variance: Tensor,
    method: str = "probit",
    distribution: str = "logit",
    *,
    num_samples: int = 16,
    order: int = DEFAULT_ORDER,
    generator: Generator | None = None,
) -> Tensor:
    """The marginal p_hat = integral p q(p) dp (E7).

    ``logit``: p = sigmoid(z), z ~ N(mean, sigma^2), by ``method``:
        ``probit``: sigmoid(mean / sqrt(1 + pi sigma^2 / 8)), within 0.016 of the integral for sigma <= 5;
        ``quadrature``: Gauss-Hermite; the default order is within 1e-6 for |mean| <= 8, sigma <= 3;
        ``monte_carlo``: the mean over reparameterised samples, unbiased.
    ``truncated``: p ~ N(mean, sigma^2) truncated to [0, 1], in closed form; ``method`` plays no part.

    Args:
        mean: any shape, float, any value: a logit, or for ``truncated`` a location on the axis of p.
        log_variance: the shape of ``mean``; log sigma^2, accurate for values up to about 10.
        num_samples: K of ``monte_carlo``, >= 1.
        order: K of ``quadrature``, >= 1. K times the memory of ``mean`` is needed.
        generator: source of the samples, on any device; None takes torch's global one.

    Returns:
        p_hat in [0, 1], the shape of ``mean``.

    Raises:
        ValueError: an unknown choice, shapes that differ, or a count below 1.
    """
    options = {"num_samples": num_samples, "order": order, "generator": generator}
    return torch.sigmoid(marginal_logit(mean, log_variance, method, distribution, **options))


def marginal_logit(
    mean: Tensor,
    log_variance: Tensor,
    method: str = "probit",
    distribution: str = "logit",
    *,
    num_samples: int = 16,
    order: int = DEFAULT_ORDER,
    generator: Generator | None = None,
) -> Tensor:
    """logit(p_hat) of E7: log E[sigmoid(z)] - log E[sigmoid(-z)], which does not saturate where p_hat does.

    Arguments, errors and accuracy as in :func:`marginal_probability`, whose logit this is. As sigma -> 0 it tends to
    ``mean`` (``logit``); values and gradients stay finite for logits of +-100.
    """
    check_choice("method", method, METHODS)
    check_choice("distribution", distribution, DISTRIBUTIONS)
    mean, log_variance = _gaussian(mean, log_variance)
    if distribution == "truncated":
        p, _, reflected = truncated_moments(mean, log_variance)
        logit = torch.log(p) - torch.log1p(-p)
        return torch.where(reflected, -logit, logit).to(mean.dtype)
    if method == "probit":
        return _mean_field(mean, log_variance)
    log_weight, z = _expand(mean, log_variance, method, order, num_samples, generator)
    positive = torch.logsumexp(log_weight + F.logsigmoid(z), dim=0)
    return positive - torch.logsumexp(log_weight + F.logsigmoid(-z), dim=0)


def marginal_log_softmax(
    mean: Tensor,
    log_variance: Tensor,
    method: str = "probit",
    *,
    num_samples: int = 16,
    generator: Generator | None = None,
) -> Tensor:
    """log p_hat of independent Gaussian logits under a softmax (E7).

    ``probit``: log_softmax(mean_a / sqrt(1 + pi sigma_a^2 / 8)), the mean-field scaling of each logit. Unlike the
    integral it changes when a constant is added to a row; for logits of a few units and A <= 21 its probabilities
    were within 0.02 for sigma <= 0.25, 0.1 for sigma <= 0.5, 0.25 for sigma <= 1: take samples beyond.
    ``monte_carlo``: log of the mean softmax over reparameterised samples.

    Args:
        mean, log_variance: (N, A) float logits and log sigma^2.
        num_samples, generator: as in :func:`marginal_probability`.

    Returns:
        (N, A) log-probabilities; each row's probabilities sum to 1.

    Raises:
        ValueError: ``quadrature``, an unknown method, or shapes that are not twice (N, A).

    Source: Lu, Ie and Sha, Mean-Field Approximation to Gaussian-Softmax Integral, 2020.
    """
    check_choice("method", method, METHODS)
    mean, log_variance = _gaussian(mean, log_variance)
    _check_rows(mean)
    if method == "quadrature":
        raise ValueError(
            f"method 'quadrature' does not serve a softmax: its marginal is an integral over all {mean.shape[1]} "
            "logits; choose probit or monte_carlo"
        )
    if method == "probit":
        return F.log_softmax(_mean_field(mean, log_variance), dim=1)
    log_weight, z = _expand(mean, log_variance, method, DEFAULT_ORDER, num_samples, generator)
    return torch.logsumexp(log_weight + F.log_softmax(z, dim=-1), dim=0)


def probability_std(
    mean: Tensor, log_variance: Tensor, distribution: str = "logit", *, order: int = DEFAULT_ORDER
) -> Tensor:
    """Standard deviation of the probability p (E6): sqrt(E[p^2] - p_hat^2).

    ``logit`` by Gauss-Hermite quadrature, ``truncated`` in closed form; arguments and errors as in
    :func:`marginal_probability`.

    Returns:
        The shape of ``mean``, in (0, 0.5]; the variance is held at or above the smallest normal float, so that the
        root keeps a gradient (float32: a standard deviation of 1e-19).
    """
    check_choice("distribution", distribution, DISTRIBUTIONS)
    mean, log_variance = _gaussian(mean, log_variance)
    if distribution == "truncated":
        variance = truncated_moments(mean, log_variance)[1]
    else:
        # The spread of p is that of 1 - p: on the side of the small p nothing is lost to rounding.
        log_weight, z = _expand(-mean.abs(), log_variance, "quadrature", order, 0, None)
        weight, p = log_weight.exp(), torch.sigmoid(z)
        variance = (weight * (p - (weight * p).sum(dim=0)).square()).sum(dim=0)
    return variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt().to(mean.dtype)


def softmax_std(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Standard deviation of each softmax probability, by the delta method on its one-vs-rest logit (E6).

    p_a = sigmoid(l_a), l_a = z_a - logsumexp_{k != a} z_k, taken as Gaussian with mean l_a(mean) and variance
    sigma_a^2 + sum_{k != a} w_k^2 sigma_k^2, w the softmax over the others; then :func:`probability_std`.
    For A = 2 exact up to quadrature; beyond, measured against sampling for A <= 21: within 0.002 for sigma <= 0.25,
    0.006 for sigma <= 0.5, 0.03 for sigma <= 1, mostly too large; no guide at sigma >= 2 (0.1).

    Args:
        mean, log_variance: (N, A) float logits and log sigma^2, A >= 2; independent columns. Needs N A^2 memory.

    Returns:
        (N, A), in (0, 0.5].

    Raises:
        ValueError: shapes that are not twice (N, A), or A < 2.
    """
    mean, log_variance = _gaussian(mean, log_variance)
    _check_rows(mean)
    columns = mean.shape[1]
    if columns < 2:
        raise ValueError(f"mean {tuple(mean.shape)}: expected at least two columns, a softmax over one is constant")
    itself = torch.eye(columns, dtype=torch.bool, device=mean.device)
    others = mean[:, None, :].masked_fill(itself, float("-inf"))
    variance = log_variance.exp()
    rest = (torch.softmax(others, dim=-1).square() * variance[:, None, :]).sum(dim=-1)
    return probability_std(mean - torch.logsumexp(others, dim=-1), torch.log(variance + rest))


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: float | Tensor, prior_std: float | Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(m0, s0^2)) in closed form (E8), elementwise.

    KL = (exp(d) - 1 - d + ((mean - m0) / s0)^2) / 2, d = log sigma^2 - log s0^2.

    Args:
        mean, log_variance: any shape, float.
        prior_mean, prior_std: m0 and s0 > 0; numbers, or tensors that broadcast against ``mean``, e.g. (C,).

    Returns:
        >= 0, the shape of ``mean``.

    Raises:
        ValueError: shapes differ, or prior_std is a number that is not above 0.
    """
    mean, log_variance = _gaussian(mean, log_variance)
    # Not for a tensor: reading one back would make every step wait for the device.
    if not isinstance(prior_std, Tensor) and prior_std <= 0:
        raise ValueError(f"prior_std is {prior_std}: expected a number > 0")
    prior_mean, prior_std = (torch.as_tensor(x, dtype=mean.dtype, device=mean.device) for x in (prior_mean, prior_std))
    d = log_variance - 2 * torch.log(prior_std)
    return (torch.expm1(d) - d + ((mean - prior_mean) / prior_std).square()) / 2


def logit_nodes(
    mean: Tensor,
    log_variance: Tensor,
    method: str = "quadrature",
    *,
    order: int = 5,
    num_samples: int = 8,
    generator: Generator | None = None,
) -> list[tuple[float, Tensor]]:
    """Weights and reparameterised logits over which E_q[L(z)] is summed: sum_k weight_k L(z_k) (E8).

    ``quadrature`` puts all logits at the same node z = mean + sigma x_k: exact in the limit for a loss that is a sum
    of terms of one logit each (``sigmoid``). ``monte_carlo`` draws each logit by itself and serves any loss.

    Args:
        mean, log_variance: any shape, float.
        method: ``quadrature`` (``order`` nodes) or ``monte_carlo`` (``num_samples`` samples).
        order, num_samples, generator: as in :func:`marginal_probability`.

    Returns:
        K pairs (weight, z): weights > 0 that sum to 1, z the shape of ``mean``.

    Raises:
        ValueError: an unknown method, shapes that differ, or a count below 1.
    """
    check_choice("method", method, METHODS[1:])
    mean, log_variance = _gaussian(mean, log_variance)
    _, z = _expand(mean, log_variance, method, order, num_samples, generator)
    weights = _hermite(order)[1].tolist() if method == "quadrature" else [1 / num_samples] * num_samples
    return list(zip(weights, z, strict=True))


def mean_for_probability(
    probability: float, log_variance: float, method: str = "probit", distribution: str = "logit"
) -> float:
    """The mean whose marginal is the given probability: the prior bias of E1, set on p_hat (E7), in float64.

    Args:
        probability: p_hat in (0, 1).
        log_variance: log sigma^2.
        method, distribution: as in :func:`marginal_probability`; ``monte_carlo`` is answered by ``quadrature``.

    Raises:
        ValueError: probability outside (0, 1), log_variance not finite, or an unknown choice.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability is {probability}: expected a number in (0, 1)")
    if not math.isfinite(log_variance):
        raise ValueError(f"log_variance is {log_variance}: expected a finite number")
    check_choice("method", method, METHODS)
    method = "quadrature" if method == "monte_carlo" else method
    target = math.log(probability) - math.log1p(-probability)
    fixed = torch.tensor(float(log_variance), dtype=torch.float64)

    def below(x: float) -> bool:
        return marginal_logit(torch.tensor(x, dtype=torch.float64), fixed, method, distribution).item() < target

    low, high = -1.0, 1.0
    while not below(low):
        low *= 2
    while below(high):
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _widen(*tensors: Tensor) -> list[Tensor]:
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return [t.to(dtype) for t in tensors]


def _gaussian(mean: Tensor, log_variance: Tensor) -> list[Tensor]:
    if mean.shape != log_variance.shape:
        raise ValueError(
            f"mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)}: expected one log sigma^2 per mean"
        )
    return _widen(mean, log_variance)


def _check_rows(mean: Tensor) -> None:
    if mean.dim() != 2:
        raise ValueError(f"mean {tuple(mean.shape)}: expected (N, A), one row of logits a sample")


def _mean_field(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean / torch.sqrt(1 + math.pi / 8 * log_variance.exp())


# Plain arrays are kept, not tensors: one made under inference_mode could not enter a backward pass later.
@lru_cache
def _hermite(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of E[f(x)], x ~ N(0, 1); the weights sum to 1."""
    x, weight = np.polynomial.hermite_e.hermegauss(order)
    return x, weight / weight.sum()


def _expand(mean, log_variance, method, order, num_samples, generator):
    """log weights, broadcastable to z, and z = mean + sigma x of shape (K, *mean.shape)."""
    name, count = ("order", order) if method == "quadrature" else ("num_samples", num_samples)
    if count < 1:
        raise ValueError(f"{name} is {count}: expected an integer >= 1")
    sigma = torch.exp(log_variance / 2)
    if method == "quadrature":
        column = (-1,) + (1,) * mean.dim()
        x, weight = _hermite(order)
        x, log_weight = (torch.as_tensor(v, dtype=mean.dtype, device=mean.device) for v in (x, np.log(weight)))
        return log_weight.view(column), mean + sigma * x.view(column)
    device = mean.device if generator is None else generator.device
    noise = torch.randn((count, *mean.shape), generator=generator, dtype=mean.dtype, device=device)
    return -math.log(count), mean + sigma * noise.to(mean.device)
