"""E14: the proximal operators against scipy's minimisers, proximal descent against scikit-learn's Lasso."""

import copy

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver.build import maybe_add_gradient_clipping
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import Lasso

from reg_d2.optim import ChainedOptimizer, attach_proximal, prox_box, prox_group_l1, prox_l1, prox_l1_box

VALUES = np.random.default_rng(0).normal(scale=1.5, size=60)


def argmin(objective, bounds):
    return minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-10, "maxiter": 500}).x


@pytest.mark.parametrize("step", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("center", [0.0, 0.7])
def test_l1_is_the_argmin(step, center):
    expected = [argmin(lambda u, v=v: step * abs(u - center) + (u - v) ** 2 / 2, (-9, 9)) for v in VALUES]
    np.testing.assert_allclose(prox_l1(torch.from_numpy(VALUES), step, center).numpy(), expected, atol=1e-6)


def test_l1_rests_exactly_at_the_center():
    center = torch.tensor([0.3, -0.7])
    assert torch.equal(prox_l1(torch.tensor([0.35, -0.8]), 0.2, center), center)


@pytest.mark.parametrize("step", [0.2, 1.5])
def test_group_l1_is_the_argmin(step):
    v = VALUES.reshape(20, 3)
    norm = np.linalg.norm(v, axis=1)
    assert (norm < step).any() or step < 1
    result = prox_group_l1(torch.from_numpy(v), step).numpy()
    for row, actual in zip(v, result, strict=True):
        start = row
        for _ in range(3):  # restarts: a simplex can stall
            options = {"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000, "maxfev": 4000}
            found = minimize(
                lambda u, row=row: step * np.linalg.norm(u) + ((u - row) ** 2).sum() / 2,
                start,
                method="Nelder-Mead",
                options=options,
            )
            start = found.x
        np.testing.assert_allclose(actual, found.x, atol=1e-6)


def test_groups_of_filters_and_of_zeros():
    v = torch.zeros(2, 3, 2, 2)
    v[1] = 1.0  # norm sqrt(12)
    expected = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), 1 - 1 / 12**0.5)])
    torch.testing.assert_close(prox_group_l1(v, 1.0, dim=(1, 2, 3)), expected)


def test_box_is_the_argmin():
    expected = [argmin(lambda u, v=v: (u - v) ** 2 / 2, (-0.5, 1.0)) for v in VALUES]
    np.testing.assert_allclose(prox_box(torch.from_numpy(VALUES), -0.5, 1.0).numpy(), expected, atol=1e-6)
    assert prox_box(torch.tensor([-1.0, 5e9]), 0.0, float("inf")).tolist() == [0.0, 5e9]
    with pytest.raises(ValueError, match="empty"):
        prox_box(torch.ones(1), 1.0, 0.0)


@pytest.mark.parametrize("center", [0.0, 0.4, 1.0, 1.8])
@pytest.mark.parametrize("step", [0.0, 0.3, 2.0])
def test_l1_in_a_box_is_the_argmin(center, step):
    expected = [argmin(lambda u, v=v: step * abs(u - center) + (u - v) ** 2 / 2, (0.0, 1.0)) for v in VALUES]
    result = prox_l1_box(torch.from_numpy(VALUES), step, center, 0.0, 1.0).numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def clipped_sgd(parameters, **kwargs):
    """Detectron2's SGD with clipping, whose step calls torch's."""
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    return maybe_add_gradient_clipping(cfg, torch.optim.SGD)(parameters, **kwargs)


def clipped_instance(parameters, **kwargs):
    """The same as later releases build it: an instance whose class is exchanged."""
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    return maybe_add_gradient_clipping(cfg, torch.optim.SGD(parameters, foreach=True, **kwargs))


def chain(parameters, **kwargs):
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=7.0)
    return ChainedOptimizer([other, torch.optim.SGD(parameters, **kwargs)])


OPTIMIZERS = {"plain": torch.optim.SGD, "clipped": clipped_sgd, "clipped_instance": clipped_instance, "chained": chain}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("build", [torch.optim.SGD, chain])
def test_lasso(momentum, build):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 20))
    y = x[:, :4] @ np.array([2.0, -1.0, 0.5, 3.0]) + 0.1 * rng.normal(size=80)
    alpha = 0.2
    expected = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y).coef_
    w = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    lr = (1 - momentum) / np.linalg.eigvalsh(x.T @ x / 80).max()
    optimizer = build([w], lr=lr, momentum=momentum)
    strength = alpha / (1 - momentum)
    attach_proximal(optimizer, {w: lambda value, lr: prox_l1(value, lr * strength)})
    features, target = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(500):
        optimizer.zero_grad()
        ((target - features @ w).square().sum() / (2 * 80)).backward()
        optimizer.step()
    np.testing.assert_allclose(w.detach().numpy(), expected, atol=1e-4)
    assert 4 <= (expected == 0).sum() == (w == 0).sum()


def parameter_at(*values):
    parameter = torch.nn.Parameter(torch.tensor(values))
    parameter.grad = torch.zeros_like(parameter)
    return parameter


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_proximal_step_per_step_by_the_groups_own_rate(name):
    p, q, free = parameter_at(5.0), parameter_at(5.0), parameter_at(5.0)
    optimizer = OPTIMIZERS[name]([{"params": [p, free]}, {"params": [q], "lr": 0.5}], lr=0.25)
    attach_proximal(optimizer, dict.fromkeys([p, q], lambda value, lr: prox_l1(value, lr)))
    optimizer.step()
    assert (p.item(), q.item(), free.item()) == (4.75, 4.5, 5.0)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step()
    assert (p.item(), q.item(), free.item()) == (4.5, 4.0, 5.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_schedule_changes_the_proximal_step(name):
    p = parameter_at(5.0)
    optimizer = OPTIMIZERS[name]([p], lr=1.0)
    attach_proximal(optimizer, {p: lambda value, lr: prox_l1(value, lr)})
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    path = []
    for _ in range(3):
        optimizer.step()
        scheduler.step()
        path.append(p.item())
    assert path == [4.0, 3.5, 3.25]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_step_has_no_proximal_step(name):
    p = parameter_at(5.0)
    optimizer = OPTIMIZERS[name]([p], lr=1.0)
    attach_proximal(optimizer, {p: lambda value, lr: prox_l1(value, lr)})
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for gradient, expected in [(float("inf"), 5.0), (0.0, 4.0)]:
        scaler.scale(torch.ones(()))  # sets up its scale, as a backward pass would
        p.grad = torch.full_like(p, gradient)
        scaler.step(optimizer)
        scaler.update()
        assert p.item() == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_box_is_kept(name):
    p = torch.nn.Parameter(torch.full((50,), 0.5))
    optimizer = OPTIMIZERS[name]([p], lr=0.5, momentum=0.9)
    attach_proximal(optimizer, {p: lambda value, lr: prox_l1_box(value, 0.01 * lr, 0.5, 0.0, 1.0)})
    generator = torch.Generator().manual_seed(4)
    touched = torch.zeros(2)
    for _ in range(100):
        p.grad = torch.randn(50, generator=generator)
        optimizer.step()
        assert p.min() >= 0 and p.max() <= 1
        touched += torch.tensor([(p == 0).sum(), (p == 1).sum()])
    assert (touched > 0).all()


def test_an_unknown_parameter_is_named():
    known, unknown = parameter_at(1.0), parameter_at(1.0, 2.0)
    optimizer = torch.optim.SGD([known], lr=1.0)
    rules = {known: prox_l1, unknown: prox_l1}
    with pytest.raises(ValueError, match=r"roi_heads\.delta has a proximal rule"):
        attach_proximal(optimizer, rules, names={unknown: "roi_heads.delta"})
    with pytest.raises(ValueError, match=r"number 1 of the rules, shape \(2,\)"):
        attach_proximal(optimizer, rules)
