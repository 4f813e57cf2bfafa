"""E1, E2 against torchvision's and fvcore's focal losses and torch's cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss as fvcore_focal_loss
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from reg_d2.losses import binary_focal_loss, generalized_focal_loss

C = 5


def sample(n=40, columns=C, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, columns, generator=generator, dtype=dtype) * 4
    targets = torch.randint(0, C + 1, (n,), generator=generator)
    return logits, targets


def one_hot(targets):
    return F.one_hot(targets, C + 1)[:, :C].double()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("oracle", [torchvision_focal_loss, fvcore_focal_loss])
def test_sigmoid_equals_the_field_s_focal_losses(gamma, oracle):
    logits, targets = sample()
    expected = oracle(logits, one_hot(targets), alpha=-1, gamma=gamma, reduction="none")
    torch.testing.assert_close(generalized_focal_loss(logits, targets, gamma=gamma), expected, check_dtype=False)


def test_sigmoid_weights_equal_retinanet_s_alpha():
    logits, targets = sample()
    expected = torchvision_focal_loss(logits, one_hot(targets), alpha=0.25, gamma=2.0, reduction="none")
    ours = generalized_focal_loss(logits, targets, class_weight=torch.full((C,), 0.25), negative_weight=0.75)
    torch.testing.assert_close(ours, expected)


def test_sigmoid_weighs_each_class_and_only_its_positives():
    logits, targets = sample()
    a = torch.tensor([1.0, 2.0, 3.0, 4.0, 73.0])
    plain = generalized_focal_loss(logits, targets)
    weighted = generalized_focal_loss(logits, targets, class_weight=a)
    expected = torch.where(one_hot(targets) > 0, plain * a, plain)
    torch.testing.assert_close(weighted, expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_at_gamma_zero_is_cross_entropy(weighted):
    logits, targets = sample(columns=C + 1)
    a = torch.tensor([1.0, 2.0, 3.0, 4.0, 73.0], dtype=torch.float64)
    full = torch.cat([a, torch.tensor([0.5], dtype=torch.float64)])
    ours = generalized_focal_loss(
        logits,
        targets,
        activation="softmax",
        gamma=0.0,
        class_weight=a if weighted else None,
        negative_weight=0.5 if weighted else 1.0,
    )
    expected = F.cross_entropy(logits, targets, weight=full if weighted else None, reduction="none")
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_equals_the_formula(gamma):
    logits, targets = sample(columns=C + 1)
    p = logits.softmax(1)[torch.arange(len(targets)), targets]
    ours = generalized_focal_loss(logits, targets, activation="softmax", gamma=gamma)
    torch.testing.assert_close(ours, -((1 - p) ** gamma) * p.log())


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_class_weights_never_touch_the_background(activation):
    columns = C + (activation == "softmax")
    logits, _ = sample(columns=columns)
    background = torch.full((len(logits),), C)
    plain = generalized_focal_loss(logits, background, activation=activation)
    weighted = generalized_focal_loss(logits, background, activation=activation, class_weight=torch.full((C,), 9.0))
    torch.testing.assert_close(weighted, plain)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("value", [100.0, -100.0])
def test_finite_values_and_gradients_at_extreme_logits(activation, gamma, value):
    logits = torch.zeros(C + 1, C + (activation == "softmax"))
    logits.fill_diagonal_(value)
    logits.requires_grad_()
    loss = generalized_focal_loss(logits, torch.arange(C + 1), activation=activation, gamma=gamma)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    # Certain and right costs nothing; certain and wrong costs the logit.
    own = loss[0] if activation == "softmax" else loss[0, 0]
    assert own.item() == pytest.approx(0.0 if value > 0 else 100.0, abs=2.0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_gradcheck(activation):
    logits, targets = sample(8, C + (activation == "softmax"))
    a = torch.rand(C, dtype=torch.float64) + 0.5
    g = torch.rand(8, C if activation == "sigmoid" else C + 1, dtype=torch.float64)

    def loss(z):
        return generalized_focal_loss(z, targets, class_weight=a, activation=activation, refinement=g, gamma=1.5)

    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_empty_input_is_zero_and_attached(activation, reduction):
    logits = torch.zeros(0, C + (activation == "softmax"), requires_grad=True)
    loss = generalized_focal_loss(
        logits, torch.zeros(0, dtype=torch.long), activation=activation, reduction=reduction
    ).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None


def test_half_precision_is_computed_in_float32_and_does_not_change_its_input():
    logits, targets = sample(dtype=torch.float32)
    half = logits.half()
    kept = half.clone()
    loss = generalized_focal_loss(half, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, generalized_focal_loss(half.float(), targets))
    assert torch.equal(half, kept)


def test_reductions():
    logits, targets = sample()
    each = generalized_focal_loss(logits, targets)
    assert each.shape == (40, C)
    torch.testing.assert_close(generalized_focal_loss(logits, targets, reduction="sum"), each.sum())
    torch.testing.assert_close(generalized_focal_loss(logits, targets, reduction="mean"), each.mean())


def test_softmax_takes_the_refinement_of_the_true_column():
    logits, targets = sample(columns=C + 1)
    plain = generalized_focal_loss(logits, targets, activation="softmax")
    g = torch.rand(40, C + 1, dtype=torch.float64)
    rows = g[torch.arange(40), targets]
    for refinement in (g, rows):
        ours = generalized_focal_loss(logits, targets, activation="softmax", refinement=refinement)
        torch.testing.assert_close(ours, plain * rows)
    objects = targets < C
    ours = generalized_focal_loss(logits, targets, activation="softmax", refinement=g[:, :C])
    torch.testing.assert_close(ours[objects], (plain * rows)[objects])
    torch.testing.assert_close(ours[~objects], (plain * g[:, :C].amax(1))[~objects])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "tanh"}, "sigmoid, softmax"),
        ({"reduction": "median"}, "none, sum, mean"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"class_weight": torch.ones(C + 1)}, "expected \\(5,\\)"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, "expected \\(40,\\)"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    logits, targets = sample()
    with pytest.raises(ValueError, match=message):
        generalized_focal_loss(logits, **{"targets": targets, **change})


def test_binary_equals_torchvision_and_at_gamma_zero_cross_entropy():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 7, 7, generator=generator, dtype=torch.float64) * 5
    masks = torch.rand(4, 7, 7, generator=generator) > 0.5
    expected = torchvision_focal_loss(logits, masks.double(), alpha=-1, gamma=2.0)
    torch.testing.assert_close(binary_focal_loss(logits, masks), expected)
    expected = F.binary_cross_entropy_with_logits(logits, masks.double())
    torch.testing.assert_close(binary_focal_loss(logits, masks, gamma=0.0, reduction="mean"), expected)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
    torch.testing.assert_close(
        binary_focal_loss(logits, masks, weight=weights), binary_focal_loss(logits, masks) * weights
    )
    with pytest.raises(ValueError, match="one target per logit"):
        binary_focal_loss(logits, masks[:2])
