"""Means and paired differences over seeds, with t-intervals, p-values and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        n: number of values.
        mean: None without any.
        low, high: the 95 % t-interval; None with fewer than two values: one seed says nothing about spread.
        deviation: standard deviation (n - 1); None likewise.
        p_value: two-sided, of a mean of 0 (one-sample t-test); None likewise, and of equal values other than 0.
    """

    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    p_value: float | None = None


def estimate(values: Sequence[float], scale: float = 0.0) -> Estimate:
    """Mean and t-interval: mean +- t_{0.975, n-1} s / sqrt(n).

    Args:
        values: n numbers.
        scale: the largest number that they were computed from: a spread below a billionth of it, or of the values, is
            rounding.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < 2:
        return Estimate(n, float(values[0]) if n else None)
    noise = ROUNDING * max(scale, float(np.abs(values).max()))
    mean = float(values.mean()) if np.abs(values).max() > noise else 0.0
    deviation = float(values.std(ddof=1)) if np.ptp(values) > noise else 0.0
    error = deviation / math.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    # Equal values other than 0 have no p: a t of infinity would be proof, from a class with one object, say.
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else (1.0 if mean == 0 else None)
    return Estimate(n, mean, mean - half, mean + half, deviation, p)


def paired(values: Mapping[Hashable, float], reference: Mapping[Hashable, float]) -> Estimate:
    """Estimate of the difference from a reference, over the seeds that both have: the paired t-test."""
    common = sorted(set(values) & set(reference))
    scale = max((abs(x[seed]) for seed in common for x in (values, reference)), default=0.0)
    return estimate([values[seed] - reference[seed] for seed in common], scale)


def holm(p_values: Mapping[Hashable, float | None]) -> dict[Hashable, float | None]:
    """p-values corrected for their number (Holm 1979): p_(k) (m - k + 1), made rising, at most 1; None stays None."""
    known = sorted((k for k, p in p_values.items() if p is not None), key=lambda k: p_values[k])
    corrected: dict[Hashable, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for i, key in enumerate(known):
        highest = max(highest, min(1.0, p_values[key] * (len(known) - i)))
        corrected[key] = highest
    return corrected
