"""E13: the step against numpy, the Euclidean part against Detectron2's own optimiser."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
from detectron2.config import get_cfg
from detectron2.solver import build_lr_scheduler
from detectron2.solver import build_optimizer as detectron2_optimizer
from geoopt import ManifoldParameter, Sphere
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reg_d2.config import add_reg_config
from reg_d2.optim import ChainedOptimizer, CosineLinear, build_optimizer


class Plain(nn.Module):
    """Convolution, norms and biases, and a vector where the other model has its classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.bn = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 6)

    def forward(self, x):
        return self.fc(self.bn(self.norm(self.conv(x))).relu().mean((2, 3)))


class Spherical(Plain):
    def __init__(self):
        super().__init__()
        self.classifier = CosineLinear.from_linear(nn.Linear(6, 4))

    def forward(self, x):
        return self.classifier(super().forward(x))


def config(clip="value", momentum=0.9, nesterov=False):
    cfg = get_cfg()
    add_reg_config(cfg)
    s = cfg.SOLVER
    s.BASE_LR, s.MOMENTUM, s.NESTEROV, s.MAX_ITER, s.WARMUP_ITERS = 0.05, momentum, nesterov, 100, 10
    s.STEPS = (50,)
    s.WEIGHT_DECAY, s.WEIGHT_DECAY_NORM, s.WEIGHT_DECAY_BIAS, s.BIAS_LR_FACTOR = 0.01, 0.003, 0.0, 2.0
    s.CLIP_GRADIENTS.ENABLED = clip is not None
    s.CLIP_GRADIENTS.CLIP_TYPE, s.CLIP_GRADIENTS.CLIP_VALUE = clip or "value", 0.02
    return cfg


def spherical_model():
    torch.manual_seed(0)
    return Spherical()


def random_gradients(model, generator):
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 0.1


def rows(model):
    return model.classifier.weight


@pytest.mark.parametrize("clip", ["value", "norm", None])
def test_euclidean_updates_are_detectron2s_to_the_bit(clip):
    model = spherical_model()
    twin = copy.deepcopy(model)
    cfg = config(clip)
    optimizer = build_optimizer(cfg, model)
    rows(twin).requires_grad_(False)  # Detectron2 leaves it out, and knows no more of it
    oracle = detectron2_optimizer(cfg, twin)
    schedulers = [build_lr_scheduler(cfg, optimizer), build_lr_scheduler(cfg, oracle)]
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    start = copy.deepcopy(model.state_dict())
    for _ in range(20):
        for m, o, s, g in zip((model, twin), (optimizer, oracle), schedulers, generators, strict=True):
            o.zero_grad()
            random_gradients(m, g)
            o.step()
            s.step()
    others = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, start[name]), name
        if name != "classifier.weight":
            assert torch.equal(parameter, others[name]), name


def test_groups_keep_detectron2s_settings():
    optimizer = build_optimizer(config(), spherical_model())
    settings = {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert settings == {(0.05, 0.01), (0.05, 0.003), (0.1, 0.0), (0.05, 0)}
    last = optimizer.param_groups[-1]
    assert last["weight_decay"] == 0 and [type(p) for p in last["params"]] == [ManifoldParameter]


def test_the_sphere_may_have_a_rate_of_its_own():
    cfg = config()
    cfg.SOLVER.MANIFOLD_LR_FACTOR = 4.0
    rates = {type(p): g["lr"] for g in build_optimizer(cfg, spherical_model()).param_groups for p in g["params"]}
    assert rates[ManifoldParameter] == pytest.approx(0.2)
    rates = [g["lr"] for g in build_optimizer(cfg, Plain()).param_groups]
    assert set(rates) <= {0.05, 0.1}, "and nothing else has it"
    cfg.SOLVER.MANIFOLD_LR_FACTOR = -1.0
    with pytest.raises(ValueError, match=r"SOLVER.MANIFOLD_LR_FACTOR is -1.0: expected a finite number >= 0"):
        build_optimizer(cfg, spherical_model())


def test_without_a_manifold_the_optimiser_is_detectron2s(monkeypatch):
    model, made = Plain(), []

    def spy(cfg, model):
        made.append(detectron2_optimizer(cfg, model))
        return made[-1]

    monkeypatch.setattr("detectron2.solver.build_optimizer", spy)
    assert build_optimizer(config(), model) is made[0] and len(made) == 1


def sphere_step(point, gradient, buffer, lr, momentum, nesterov):
    """E13 in numpy, float64: project, gather momentum, retract by normalising, carry the momentum along."""

    def tangent(x, u):
        return u - (x * u).sum(1, keepdims=True) * x

    projected = tangent(point, gradient)
    buffer = momentum * buffer + projected
    moved = point - lr * (projected + momentum * buffer if nesterov else buffer)
    moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return moved, tangent(moved, buffer)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_steps_are_projection_and_retraction(momentum, nesterov):
    model = spherical_model()
    optimizer = build_optimizer(config(None, momentum, nesterov), model)
    point, buffer = rows(model).detach().double().numpy(), 0.0
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        random_gradients(model, generator)
        gradient = rows(model).grad.double().numpy()
        optimizer.step()
        point, buffer = sphere_step(point, gradient, buffer, 0.05, momentum, nesterov)
        np.testing.assert_allclose(rows(model).detach().numpy(), point, atol=1e-6)
    if momentum:
        np.testing.assert_allclose(optimizer.state[rows(model)]["momentum_buffer"].numpy(), buffer, atol=1e-6)


def test_the_gradient_of_the_rows_is_clipped():
    model, twin = spherical_model(), spherical_model()
    for m, size in ((model, 1.0), (twin, 1e6)):
        optimizer = build_optimizer(config("value", 0.0), m)
        for parameter in m.parameters():
            parameter.grad = torch.full_like(parameter, size)
        optimizer.step()
    assert torch.equal(rows(model), rows(twin))


def test_rows_stay_on_the_sphere():
    model = spherical_model()
    optimizer = build_optimizer(config(), model)
    start = rows(model).detach().clone()
    generator = torch.Generator().manual_seed(7)
    worst = 0.0
    for _ in range(1000):
        random_gradients(model, generator)
        optimizer.step()
        worst = max(worst, (rows(model).double().norm(dim=1) - 1).abs().max().item())
    assert worst < 1e-6
    assert (rows(model) - start).norm(dim=1).min() > 0.1  # they did move


def test_state_dict_goes_on_to_the_bit():
    model = spherical_model()
    optimizer = build_optimizer(config(), model)
    generator = torch.Generator().manual_seed(9)
    for _ in range(10):
        random_gradients(model, generator)
        optimizer.step()
    other = Spherical()
    other.load_state_dict(model.state_dict())
    resumed = build_optimizer(config(), other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for o in resumed.optimizers:
        assert o.state is resumed.state and all(any(g is h for h in resumed.param_groups) for g in o.param_groups)
    for group in resumed.param_groups + optimizer.param_groups:
        group["lr"] *= 0.5  # a schedule still reaches every member after loading
    for _ in range(10):
        random_gradients(model, generator)
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            b.grad = a.grad.clone()
        optimizer.step()
        resumed.step()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_scheduler_scaler_and_closure():
    model = spherical_model()
    optimizer = build_optimizer(config(None, 0.0), model)
    assert isinstance(optimizer, ChainedOptimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    before = copy.deepcopy(model.state_dict())
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(2, 3, 8, 8)).square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    after = copy.deepcopy(model.state_dict())
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    random_gradients(model, torch.Generator().manual_seed(0))
    calls = []
    assert optimizer.step(lambda: calls.append(1) or 4.5) == 4.5 and calls == [1]
    for name, parameter in model.named_parameters():  # the learning rate is 0 now
        torch.testing.assert_close(parameter.data, after[name], msg=name)
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_scaler_skips_all_members():
    model = spherical_model()
    optimizer = build_optimizer(config(), model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(model(torch.randn(2, 3, 8, 8)).square().sum()).backward()
    rows(model).grad[0, 0] = float("inf")
    before = copy.deepcopy(model.state_dict())
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_chain_refuses_new_groups():
    optimizer = build_optimizer(config(), spherical_model())
    with pytest.raises(ValueError, match="build the chain anew"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


def test_cosine_classifier_by_hand():
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
        linear.bias.copy_(torch.tensor([0.5, -0.5]))
    layer = CosineLinear.from_linear(linear, temperature=10.0)
    # cosines of (1, 0) with (0.6, 0.8) and (0, -1); of (0, -2): -0.8 and 1; of 0: none
    expected = torch.tensor([[6.5, -0.5], [-7.5, 9.5], [0.5, -0.5]])
    torch.testing.assert_close(layer(torch.tensor([[1.0, 0.0], [0.0, -2.0], [0.0, 0.0]])), expected)
    assert layer(torch.zeros(0, 2)).shape == (0, 2)


def test_from_linear_draws_nothing_and_copies():
    linear = nn.Linear(5, 3)
    state = torch.get_rng_state()
    layer = CosineLinear.from_linear(linear)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_allclose(
        layer.weight.detach().numpy(),
        linear.weight.detach().numpy() / np.linalg.norm(linear.weight.detach().numpy(), axis=1, keepdims=True),
        rtol=1e-6,
    )
    assert torch.equal(layer.bias, linear.bias) and layer.bias.data_ptr() != linear.bias.data_ptr()
    assert CosineLinear.from_linear(nn.Linear(5, 3, bias=False)).bias is None


def test_cosine_classifier_is_float32_and_finite_in_half_precision():
    layer = CosineLinear.from_linear(nn.Linear(1024, 3))
    x = torch.full((2, 1024), 6e4).requires_grad_()  # |x| is beyond float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        from_float, from_half = layer(x), layer(x.half())
    assert from_float.dtype == from_half.dtype == torch.float32
    exact = 20 * layer.weight.detach().double().sum(1) / 32 + layer.bias.detach()
    torch.testing.assert_close(from_half[0].double(), exact, atol=1e-4, rtol=0)
    from_half.sum().backward()
    assert torch.isfinite(x.grad).all()


def on_sphere(layer):
    return isinstance(layer.weight, ManifoldParameter) and isinstance(layer.weight.manifold, Sphere)


def test_the_parameter_keeps_its_manifold(tmp_path):
    layer = CosineLinear.from_linear(nn.Linear(6, 4))
    weight = layer.weight.detach().clone()
    layer.to(memory_format=torch.channels_last).to("cpu").double().float().train()
    assert on_sphere(layer)
    clone = copy.deepcopy(layer)
    assert on_sphere(clone) and clone.weight is not layer.weight and torch.equal(clone.weight, weight)
    torch.save(layer.state_dict(), tmp_path / "w.pth")
    fresh = CosineLinear.from_linear(nn.Linear(6, 4))
    fresh.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
    assert on_sphere(fresh) and torch.equal(fresh.weight, weight)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(layer)
        parallel(torch.randn(3, 6)).sum().backward()
    finally:
        dist.destroy_process_group()
    assert on_sphere(parallel.module) and parallel.module.weight.grad is not None
    assert len(build_optimizer(config(), parallel).optimizers) == 2


def test_rows_of_a_plain_classifier_are_normalised_on_loading():
    layer = CosineLinear.from_linear(nn.Linear(6, 4))
    plain = {"weight": torch.randn(4, 6) * 7, "bias": torch.zeros(4)}
    assert layer.load_state_dict(plain, strict=False).missing_keys == ["log_temperature"]
    torch.testing.assert_close(layer.weight.data, nn.functional.normalize(plain["weight"], dim=1))


def test_refuses():
    with pytest.raises(ValueError, match="row 1"):
        CosineLinear(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="temperature"):
        CosineLinear(torch.eye(2), temperature=0.0)
