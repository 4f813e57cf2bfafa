"""E6, E7, E8 against scipy's integrator, torch.distributions, sampling and numerical derivatives."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit, logit, softmax
from torch.autograd import gradcheck
from torch.distributions import Normal, kl_divergence

from reg_d2.losses.uncertainty import (
    METHODS,
    clamp_log_variance,
    gaussian_kl,
    logit_nodes,
    marginal_log_softmax,
    marginal_logit,
    marginal_probability,
    mean_for_probability,
    probability_std,
    softmax_std,
)

MEANS = np.linspace(-8, 8, 17)
SIGMAS = np.array([0.01, 0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0])
ALL = [(method, "logit") for method in METHODS] + [("probit", "truncated")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moments(density, low, high, value, points=()):
    """Mean and standard deviation of value(x) under a density that need not be normalised."""
    # By scipy.integrate.quad; the standard deviation from centred values.
    integrate = partial(quad, a=low, b=high, points=points or None, epsabs=0, epsrel=1e-10, limit=400)
    mass = integrate(density)[0]
    mean = integrate(lambda x: density(x) * value(x))[0] / mass
    return mean, math.sqrt(integrate(lambda x: density(x) * (value(x) - mean) ** 2)[0] / mass)


def logit_oracle(mean, sigma):
    return moments(lambda x: math.exp(-x * x / 2), -13, 13, lambda x: expit(mean + sigma * x))


def truncated_oracle(mean, sigma):
    nearest = min(max(mean, 0.0), 1.0)
    # Beyond this radius the density is e^-60 of its largest value.
    radius = math.sqrt((nearest - mean) ** 2 + 120 * sigma**2)
    low, high = max(0.0, mean - radius), min(1.0, mean + radius)

    def density(p):
        # (nearest - mean)^2 - (p - mean)^2, factored: the squares of a distant mean would cancel.
        return math.exp((nearest - p) * (nearest + p - 2 * mean) / (2 * sigma**2))

    return moments(density, low, high, lambda p: p)


def table(oracle, means, sigmas):
    values = np.array([[oracle(m, s) for s in sigmas] for m in means])
    mean, sigma = np.broadcast_arrays(means[:, None], sigmas)
    return [
        torch.from_numpy(np.ascontiguousarray(x)) for x in (mean, 2 * np.log(sigma), values[..., 0], values[..., 1])
    ]


@pytest.fixture(scope="module")
def gaussian_logits():
    """(means, sigmas) grids of mean, log variance, E[p] and standard deviation of p."""
    return table(logit_oracle, MEANS, SIGMAS)


@pytest.fixture(scope="module")
def truncated():
    return table(truncated_oracle, np.concatenate([MEANS, [-0.3, -0.01, 0.02, 0.3, 0.5, 0.9, 1.2]]), SIGMAS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_quadrature_equals_the_integral(gaussian_logits, dtype):
    mean, log_variance, expected, _ = (x[:, SIGMAS <= 3].to(dtype) for x in gaussian_logits)
    ours = marginal_probability(mean, log_variance, "quadrature")
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_quadrature_converges_for_wide_sigma(gaussian_logits):
    mean, log_variance, expected, _ = gaussian_logits
    ours = marginal_probability(mean, log_variance, "quadrature", order=128)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_probit_is_within_its_bound(gaussian_logits):
    mean, log_variance, expected, _ = gaussian_logits
    error = (marginal_probability(mean, log_variance, "probit") - expected).abs()
    assert error.max() < 0.016
    assert error[:, 0].max() < 1e-5  # sigma = 0.01


def test_monte_carlo_is_within_four_standard_errors(gaussian_logits):
    mean, log_variance, expected, std = gaussian_logits
    samples = 4096
    ours = marginal_probability(mean, log_variance, "monte_carlo", num_samples=samples, generator=seeded())
    # The exact standard deviation; at the edges (mean 8, sigma 3) p is skewed and its sample's would be too small.
    assert ((ours - expected).abs() <= 4 * std / samples**0.5).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_truncated_equals_the_integral(truncated, dtype, tolerance):
    mean, log_variance, expected, std = (x.to(dtype) for x in truncated)
    ours = marginal_probability(mean, log_variance, "probit", "truncated")
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(probability_std(mean, log_variance, "truncated"), std, rtol=1e-5, atol=0)


def test_truncated_is_accurate_in_relative_terms_in_the_tails(truncated):
    mean, log_variance, expected, _ = truncated
    tail = mean < 0
    ours = marginal_logit(mean, log_variance, distribution="truncated")
    torch.testing.assert_close(ours[tail], torch.from_numpy(logit(expected[tail].numpy())), rtol=1e-8, atol=1e-8)
    mirrored = marginal_logit(1 - mean, log_variance, distribution="truncated")
    torch.testing.assert_close(mirrored, -ours)


def test_the_slope_of_the_truncated_mean_is_its_variance_over_sigma_squared(truncated):
    mean, log_variance, _, std = truncated
    mean = mean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(marginal_probability(mean, log_variance, distribution="truncated").sum(), mean)
    torch.testing.assert_close(slope, std.square() / log_variance.exp(), rtol=1e-6, atol=0)


def test_standard_deviation_equals_the_integral(gaussian_logits):
    mean, log_variance, _, std = (x[:, SIGMAS <= 3] for x in gaussian_logits)
    torch.testing.assert_close(probability_std(mean, log_variance), std, rtol=0, atol=1e-6)
    ours = probability_std(mean.float(), log_variance.float())
    torch.testing.assert_close(ours, std.float(), rtol=0, atol=1e-6)


def test_standard_deviation_of_a_narrow_gaussian_is_its_slope():
    mean = torch.linspace(-20, 20, 41)
    expected = torch.sigmoid(mean) * torch.sigmoid(-mean) * 0.01
    ours = probability_std(mean, torch.full_like(mean, 2 * math.log(0.01)))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_variance_is_the_plain_logit(method, dtype):
    mean = torch.linspace(-100, 100, 401, dtype=dtype)
    log_variance = torch.full_like(mean, -40.0)
    torch.testing.assert_close(marginal_logit(mean, log_variance, method), mean)
    torch.testing.assert_close(marginal_probability(mean, log_variance, method), torch.sigmoid(mean))
    softened = marginal_probability(mean, log_variance, method, "truncated")
    torch.testing.assert_close(softened, mean.clamp(0, 1))


@pytest.mark.parametrize(("method", "distribution"), ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_inputs_have_finite_values_and_gradients(method, distribution, dtype):
    # A truncated Gaussian at 0 has a slope near 1 / sigma: more than float16 holds unless sigma is in its usual range.
    narrow = -10.0 if dtype == torch.float16 else -60.0
    means = torch.tensor([-100.0, -30, -1, 0, 0.5, 1, 30, 100])
    grid = torch.cartesian_prod(means, torch.tensor([narrow, -4, 0, 5]))
    mean, log_variance = (x.to(dtype).requires_grad_() for x in grid.unbind(1))
    for function in (
        partial(marginal_logit, method=method, generator=seeded()),
        partial(marginal_probability, method=method, generator=seeded()),
        probability_std,
    ):
        value = function(mean, log_variance, distribution=distribution)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        gradients = torch.autograd.grad(value.sum(), (mean, log_variance))
        assert all(torch.isfinite(x).all() for x in (value, *gradients))


def test_quadrature_s_logit_is_the_log_normal_s_in_the_tail():
    # sigmoid(z) -> e^z for z << 0, whose mean is exp(mean + sigma^2 / 2).
    sigma = torch.tensor([0.1, 1.0, 2.0, 3.0])
    mean = torch.full_like(sigma, -100.0)
    expected = mean + sigma.square() / 2
    torch.testing.assert_close(marginal_logit(mean, 2 * sigma.log(), "quadrature"), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(marginal_logit(-mean, 2 * sigma.log(), "quadrature"), -expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("method", "distribution"), ALL)
@pytest.mark.parametrize("function", [marginal_probability, marginal_logit])
def test_gradients_of_the_marginal(function, method, distribution):
    mean = torch.tensor([-8.0, -3.0, -0.2, 0.3, 0.7, 2.0, 8.0], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([-9.0, 0.5, -2.0, -4.0, 2.0, 1.0, -9.0], dtype=torch.float64, requires_grad=True)

    def reseeded(m, v):
        return function(m, v, method, distribution, num_samples=4, order=8, generator=seeded())

    assert gradcheck(reseeded, (mean, log_variance))


def test_gradients_of_the_rest():
    mean = torch.randn(3, 4, generator=seeded(1), dtype=torch.float64).requires_grad_()
    log_variance = torch.randn(3, 4, generator=seeded(2), dtype=torch.float64).requires_grad_()
    for function in (
        partial(marginal_log_softmax, method="probit"),
        lambda m, v: marginal_log_softmax(m, v, "monte_carlo", num_samples=3, generator=seeded()),
        partial(probability_std, order=8),
        partial(probability_std, distribution="truncated"),
        softmax_std,
        partial(gaussian_kl, prior_mean=-2.0, prior_std=1.5),
        lambda m, v: sum(weight * z.sin() for weight, z in logit_nodes(m, v)),
        lambda m, v: sum(weight * z.sin() for weight, z in logit_nodes(m, v, "monte_carlo", generator=seeded())),
    ):
        assert gradcheck(function, (mean, log_variance))


def test_a_seeded_generator_repeats_the_samples():
    mean, log_variance = torch.zeros(6, 3), torch.ones(6, 3)
    for function in (
        partial(marginal_probability, method="monte_carlo"),
        partial(marginal_log_softmax, method="monte_carlo"),
        lambda m, v, generator: torch.stack([z for _, z in logit_nodes(m, v, "monte_carlo", generator=generator)]),
    ):
        first, again, other = (function(mean, log_variance, generator=seeded(s)) for s in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def softmax_samples(mean, sigma, count=100_000):
    noise = np.random.default_rng(0).standard_normal((count, *mean.shape))
    return softmax(mean + sigma * noise, axis=-1)


def test_softmax_marginal_against_sampling():
    mean = torch.randn(4, 6, generator=seeded(3), dtype=torch.float64) * 2
    sigma = 0.5 * torch.rand(4, 6, generator=seeded(4), dtype=torch.float64)
    samples = softmax_samples(mean.numpy(), sigma.numpy())
    expected, std = samples.mean(0), samples.std(0)
    probit = marginal_log_softmax(mean, 2 * sigma.log()).exp().numpy()
    assert np.abs(probit - expected).max() < 0.04
    count = 5000
    ours = marginal_log_softmax(mean, 2 * sigma.log(), "monte_carlo", num_samples=count, generator=seeded())
    assert (np.abs(ours.exp().numpy() - expected) <= 4 * std * math.sqrt(1 / count + 1 / len(samples))).all()
    for log_p in (ours, marginal_log_softmax(mean, 2 * sigma.log())):
        torch.testing.assert_close(log_p.exp().sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("method", ["probit", "monte_carlo"])
def test_softmax_marginal_without_variance_and_at_the_extremes(method):
    mean = torch.tensor([[100.0, -100, 0], [-100, -100, 100], [1, 2, 3]], requires_grad=True)
    log_variance = torch.full((3, 3), -40.0, requires_grad=True)
    ours = marginal_log_softmax(mean, log_variance, method)
    torch.testing.assert_close(ours, torch.log_softmax(mean, dim=1))
    gradients = torch.autograd.grad(ours[:, 0].sum(), (mean, log_variance))
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(("largest_sigma", "tolerance"), [(0.25, 0.002), (0.5, 0.006), (1.0, 0.03)])
def test_softmax_std_against_sampling(largest_sigma, tolerance):
    mean = torch.randn(8, 8, generator=seeded(7)) * 2
    sigma = largest_sigma * (0.1 + 0.9 * torch.rand(8, 8, generator=seeded(8)))
    expected = softmax_samples(mean.numpy(), sigma.numpy()).std(0)
    assert np.abs(softmax_std(mean, 2 * sigma.log()).numpy() - expected).max() < tolerance


def test_softmax_std_of_two_columns_is_that_of_the_difference():
    mean = torch.tensor([[1.0, -0.5], [3.0, 3.0]], dtype=torch.float64)
    sigma = torch.tensor([[0.3, 0.4], [0.6, 0.8]], dtype=torch.float64)
    expected = [logit_oracle(1.5, 0.5)[1], logit_oracle(0.0, 1.0)[1]]
    ours = softmax_std(mean, 2 * sigma.log())
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64)[:, None].expand(2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_equals_torch_distributions(dtype):
    mean = torch.randn(50, 7, generator=seeded(1), dtype=dtype) * 4
    log_variance = torch.randn(50, 7, generator=seeded(2), dtype=dtype) * 3
    prior_mean = torch.linspace(-6, 1, 7, dtype=dtype)
    expected = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(prior_mean, 1.7))
    torch.testing.assert_close(gaussian_kl(mean, log_variance, prior_mean, 1.7), expected)


def test_kl_is_zero_at_the_prior_and_positive_beside_it():
    offset = torch.tensor([-1e-3, 0.0, 1e-3])
    ours = gaussian_kl(torch.full((3,), -2.0), 2 * math.log(1.5) + offset, -2.0, 1.5)
    torch.testing.assert_close(ours, offset.square() / 4, rtol=2e-2, atol=1e-9)


def test_nodes_integrate_polynomials_exactly():
    mean, sigma = torch.tensor([[-1.5, 0.7]], dtype=torch.float64), torch.tensor([[0.4, 2.0]], dtype=torch.float64)
    nodes = logit_nodes(mean, 2 * sigma.log(), order=5)
    weights, z = zip(*nodes, strict=True)
    assert all(x.shape == mean.shape for x in z)
    assert math.isclose(sum(weights), 1.0)
    # Moments of a Gaussian: E[z^n] = mean E[z^(n-1)] + (n - 1) sigma^2 E[z^(n-2)]; five nodes are exact to n = 9.
    before, moment = torch.zeros_like(mean), torch.ones_like(mean)
    for n in range(1, 10):
        before, moment = moment, mean * moment + (n - 1) * sigma.square() * before
        torch.testing.assert_close(sum(w * x**n for w, x in nodes), moment, rtol=1e-9, atol=1e-9)


def test_sampled_nodes_have_equal_weights_and_the_right_spread():
    mean, log_variance = torch.full((1000,), 2.0), torch.full((1000,), 2 * math.log(0.5))
    nodes = logit_nodes(mean, log_variance, "monte_carlo", num_samples=20, generator=seeded())
    assert [w for w, _ in nodes] == [0.05] * 20
    z = torch.stack([x for _, x in nodes])
    assert abs(z.mean() - 2.0) < 4 * 0.5 / z.numel() ** 0.5
    assert abs(z.std() - 0.5) < 4 * 0.5 / (2 * z.numel()) ** 0.5


@pytest.mark.parametrize(("method", "distribution"), ALL)
@pytest.mark.parametrize("probability", [1e-4, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("log_variance", [-4.0, 1.0])
def test_mean_for_probability_inverts_the_marginal(method, distribution, probability, log_variance):
    mean = mean_for_probability(probability, log_variance, method, distribution)
    oracle = truncated_oracle if distribution == "truncated" else logit_oracle
    if method == "probit" and distribution == "logit":
        marginal = expit(mean / math.sqrt(1 + math.pi / 8 * math.exp(log_variance)))
    else:
        marginal = oracle(mean, math.exp(log_variance / 2))[0]
    assert marginal == pytest.approx(probability, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 7), (3, 4, 5), ()])
def test_any_shape(method, shape):
    mean, log_variance = torch.zeros(shape), torch.zeros(shape)
    assert marginal_probability(mean, log_variance, method).shape == shape
    assert probability_std(mean, log_variance).shape == shape
    assert gaussian_kl(mean, log_variance, 0.0, 1.0).shape == shape


def test_no_rows():
    empty = torch.zeros(0, 4, requires_grad=True)
    for value in (
        marginal_log_softmax(empty, empty),
        marginal_log_softmax(empty, empty, "monte_carlo"),
        softmax_std(empty, empty),
    ):
        assert value.shape == (0, 4)
        value.sum().backward()


def test_marginals_can_be_trained_after_inference():
    with torch.inference_mode():
        marginal_probability(torch.zeros(2), torch.zeros(2), "quadrature", order=7)
    mean = torch.zeros(2, requires_grad=True)
    marginal_probability(mean, torch.zeros(2), "quadrature", order=7).sum().backward()
    assert mean.grad is not None


def test_log_variance_is_held_in_its_range():
    x = torch.tensor([-99.0, -10, -4, 5, 99], dtype=torch.float16)
    ours = clamp_log_variance(x)
    assert ours.dtype == torch.float32
    assert ours.tolist() == [-10, -10, -4, 5, 5]
    assert clamp_log_variance(x, -1.0, 1.0).tolist() == [-1, -1, -1, 1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: marginal_probability(x, x, "laplace"), "method 'laplace' is unknown: choose one of probit"),
        (lambda x: marginal_probability(x, x, distribution="beta"), "distribution 'beta' is unknown"),
        (lambda x: marginal_logit(x, x[:1]), "expected one log sigma"),
        (lambda x: marginal_logit(x, x, "monte_carlo", num_samples=0), "num_samples is 0: expected an integer >= 1"),
        (lambda x: marginal_logit(x, x, "quadrature", order=0), "order is 0: expected an integer >= 1"),
        (lambda x: marginal_log_softmax(x, x, "quadrature"), "choose probit or monte_carlo"),
        (lambda x: marginal_log_softmax(x[0], x[0]), r"mean \(3,\): expected \(N, A\)"),
        (lambda x: softmax_std(x[:, :1], x[:, :1]), "at least two columns"),
        (lambda x: logit_nodes(x, x, "probit"), "choose one of quadrature, monte_carlo"),
        (lambda x: gaussian_kl(x, x, 0.0, 0.0), "prior_std is 0.0: expected a number > 0"),
        (lambda x: mean_for_probability(1.0, -4.0), r"expected a number in \(0, 1\)"),
        (lambda x: mean_for_probability(0.5, math.nan), "log_variance is nan: expected a finite number"),
    ],
)
def test_errors_name_the_culprit_and_the_way_out(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3))
