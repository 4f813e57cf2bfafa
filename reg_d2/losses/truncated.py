"""The Gaussian truncated to the unit interval (E6): its mean and variance, exact in both tails."""

import math

import torch
from torch import Tensor


def truncated_moments(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of N(mean, sigma^2) truncated to [0, 1], after reflection to mean <= 1/2 (E6, ``truncated``).

    Args:
        mean, log_variance: (...) float32 or float64.

    Returns:
        (...) float64 mean and variance, of 1 - p where the mean was reflected, and (...) bool, where that was.
    """
    # Float64, because the closed forms are differences.
    mean, sigma = mean.double(), torch.exp(log_variance.double() / 2)
    reflected = mean > 0.5
    mean = torch.where(reflected, 1 - mean, mean)
    inside = mean >= 0
    p_in, variance_in = _inside(torch.where(inside, mean, 0.25), sigma)
    p_out, variance_out = _outside(torch.where(inside, -0.25, mean), sigma)
    return torch.where(inside, p_in, p_out), torch.where(inside, variance_in, variance_out), reflected


def _inside(mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """0 <= mean <= 1/2: the textbook form, where the mass between the bounds is never small by cancellation."""
    a, b = -mean / sigma, (1 - mean) / sigma
    mass = (torch.erf(b / math.sqrt(2)) - torch.erf(a / math.sqrt(2))) / 2
    at_a, at_b = (torch.exp(-x.square() / 2) / (math.sqrt(2 * math.pi) * mass) for x in (a, b))
    shift = at_a - at_b
    return mean + sigma * shift, sigma.square() * (1 + a * at_a - b * at_b - shift.square())


def _outside(mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """mean < 0: moments of t = p / sigma from the tails beyond both bounds, none of which can underflow.

    With M_n(x) = integral_0^inf t^n exp(-x t - t^2 / 2) dt, w = 1 / sigma and q the density at 1 over that at 0,
    E[t^n] = (M_n(a) - q sum_k binom(n, k) w^(n - k) M_k(b)) / (M_0(a) - q M_0(b)).
    """
    width = 1 / sigma
    a = -mean / sigma
    q = torch.exp(-(0.5 - mean) / sigma.square())
    a0, a1, a2 = _tail_moments(a)
    b0, b1, b2 = _tail_moments(a + width)
    mass = a0 - q * b0
    first = (a1 - q * (b1 + width * b0)) / mass
    second = (a2 - q * (b2 + 2 * width * b1 + width.square() * b0)) / mass
    return sigma * first, sigma.square() * (second - first.square())


def _tail_moments(x: Tensor) -> list[Tensor]:
    """M_0, M_1, M_2 for x >= 0: by erfcx and recurrence, and by the asymptotic series where that would cancel."""
    near = x < 30
    y = torch.where(near, x, 1.0)
    m0 = math.sqrt(math.pi / 2) * torch.special.erfcx(y / math.sqrt(2))
    m1 = 1 - y * m0
    far = torch.where(near, 30.0, x)
    result = []
    for n, value in enumerate((m0, m1, m0 - y * m1)):
        series = torch.zeros_like(far)
        for k in reversed(range(7)):
            coefficient = (-1) ** k * math.factorial(n + 2 * k) / (2**k * math.factorial(k))
            series = series / far.square() + coefficient
        result.append(torch.where(near, value, series / far ** (n + 1)))
    return result
