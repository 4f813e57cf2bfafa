"""Every peer's loss and scores against its formula written out in numpy, and against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from fvcore.nn import sigmoid_focal_loss
from scipy.special import expit, log_softmax, softmax
from scipy.stats import gumbel_r

from projects.longtail_losses.classifiers import NormedLinear, one_hot
from projects.longtail_losses.margins import LDAM, LogitAdjustment
from projects.longtail_losses.one_vs_all import Gumbel, SigmoidBCE, SigmoidFocal
from projects.longtail_losses.post_hoc import FRACAL, NorCal
from projects.longtail_losses.seesaw import Seesaw
from projects.longtail_losses.with_background import ECM, EQLv2

C = 3
TARGETS = np.array([0, 1, 2, 3, 0, 3])
COUNTS = np.array([60.0, 30.0, 10.0])
NONE_RARE = torch.zeros(C, dtype=torch.bool)


def logits(columns, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(scale=scale, size=(len(TARGETS), columns))


def loss_of(loss, z, targets=TARGETS):
    return loss(torch.tensor(z, dtype=torch.float32), torch.as_tensor(targets)).item()


def scores_of(loss, z):
    return loss.scores(torch.tensor(z, dtype=torch.float32)).numpy()


def bce(z, y):
    return -(y * np.log(expit(z)) + (1 - y) * np.log(expit(-z)))


def counts():
    return torch.tensor(COUNTS, dtype=torch.float32)


def test_sigmoid_bce():
    z, y = logits(C), np.eye(C + 1)[TARGETS][:, :C]
    loss = SigmoidBCE(num_classes=C, bias=-1.0)
    assert loss_of(loss, z) == pytest.approx(bce(z, y).sum() / 6, rel=1e-5)
    assert loss_of(loss, np.zeros((2, C)), [0, 3]) == pytest.approx(3 * math.log(2)), "by hand: p = 1/2 everywhere"
    np.testing.assert_allclose(scores_of(loss, z)[:, :C], expit(z), rtol=1e-5)
    np.testing.assert_allclose(scores_of(loss, z)[:, C], 1 - expit(z).max(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_sigmoid_focal_divides_by_the_running_number_of_objects(momentum):
    z, y = logits(C), np.eye(C + 1)[TARGETS][:, :C]
    loss = SigmoidFocal(num_classes=C, bias=0.0, alpha=0.25, gamma=2.0, momentum=momentum)
    p = expit(z)
    terms = -(0.25 * y * (1 - p) ** 2 * np.log(p) + 0.75 * (1 - y) * p**2 * np.log(1 - p))
    assert loss_of(loss, z) == pytest.approx(terms.sum() / 4, rel=1e-5)
    # One of its six rows is an object: 0.9 x 4 + 0.1 x 1 = 3.7. By hand, p = 1/2: (0.25 + 17 x 0.75) / 4 log 2.
    mean = {0.9: 3.7, 0.5: 2.5}[momentum]
    expected = (0.25 + 17 * 0.75) / 4 * math.log(2) / mean
    assert loss_of(loss, np.zeros((6, C)), [0, 3, 3, 3, 3, 3]) == pytest.approx(expected, rel=1e-5)
    assert loss.foreground_mean.item() == pytest.approx(mean)


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (lambda: SigmoidFocal(num_classes=C, bias=0.0, alpha=0.25, gamma=2.0, momentum=0.9), C),
        (lambda: Seesaw(num_classes=C, p=0.8, q=2.0, eps=0.01, temperature=20.0), C + 2),
        (lambda: EQLv2(num_classes=C, gamma=12.0, mu=0.8, alpha=4.0), C + 1),
    ],
    ids=["sigmoid_focal", "seesaw", "eqlv2"],
)
def test_a_loss_without_gradients_as_of_validation_moves_no_statistics(make, outputs):
    loss, z = make(), logits(outputs)
    loss_of(loss, z)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    with torch.no_grad():
        loss_of(loss, z, [0, 3, 3, 3, 3, 3])
    assert before and all(value.equal(before[name]) for name, value in loss.state_dict().items())
    loss_of(loss, z, [0, 3, 3, 3, 3, 3])
    assert not any(value.equal(before[name]) for name, value in loss.state_dict().items())


def test_sigmoid_focal_has_seen_nothing_before_the_first_object():
    loss = SigmoidFocal(num_classes=C, bias=0.0, alpha=0.25, gamma=2.0, momentum=0.9)
    background, objects = 18 * 0.75 / 4 * math.log(2), (6 * 0.25 + 12 * 0.75) / 4 * math.log(2)
    for _ in range(2):
        assert loss_of(loss, np.zeros((6, C)), [3] * 6) == pytest.approx(background, rel=1e-5)
        assert loss.foreground_mean == 0
    assert loss_of(loss, np.zeros((6, C)), [0, 1, 2, 0, 1, 2]) == pytest.approx(objects / 6, rel=1e-5)
    # Detectron2's RetinaNet takes a later batch without objects for one with 1.
    assert loss_of(loss, np.zeros((6, C)), [3] * 6) == pytest.approx(background / (0.9 * 6 + 0.1), rel=1e-5)


@pytest.mark.parametrize("alpha", [-1.0, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_sigmoid_focal_is_fvcore_s_and_has_a_gradient_where_that_has_none(gamma, alpha):
    z, y = torch.tensor(logits(C), dtype=torch.float32), torch.eye(C + 1)[TARGETS][:, :C]
    loss = SigmoidFocal(num_classes=C, bias=0.0, alpha=alpha, gamma=gamma, momentum=0.9)
    expected = sigmoid_focal_loss(z, y, alpha=alpha, gamma=gamma, reduction="sum") / 4
    torch.testing.assert_close(loss(z, torch.as_tensor(TARGETS)), expected)
    sure = torch.tensor([[50.0, -50.0, 17.0], [-50.0, 50.0, -17.0]], requires_grad=True)
    loss(sure, torch.tensor([0, 0])).backward()
    assert torch.isfinite(sure.grad).all()
    assert (sure.grad[1, :2] * torch.tensor([-1.0, 1.0]) > 0).all(), "what is wrong is pulled back"


def test_gumbel_is_the_distribution_of_scipy():
    z, y = logits(C), np.eye(C + 1)[TARGETS][:, :C]
    z[0, 0], z[3, 1], z[5, 0] = 12.0, -9.0, 11.0
    loss = Gumbel(num_classes=C, bias=-2.0, rare=NONE_RARE)
    clamped = z.clip(-4, 10)
    terms = -np.where(y > 0, gumbel_r.logcdf(clamped), gumbel_r.logsf(clamped))
    assert loss_of(loss, z) == pytest.approx(terms.sum() / 6, rel=1e-4)
    np.testing.assert_allclose(scores_of(loss, z)[:, :C], gumbel_r.cdf(z), rtol=1e-4, atol=1e-7)
    # By hand, z = 0: p = 1/e, -log p = 1, -log(1 - p) = 0.458675.
    assert loss_of(loss, np.zeros((1, C)), [1]) == pytest.approx(1 + 2 * 0.458675, rel=1e-5)


@pytest.mark.parametrize(
    ("targets", "kept_negatives"),
    [
        ([0, 1, 3], 0),  # no object of the rare class: dropped everywhere
        ([2, 2, 3], 1),  # all objects are of it: background ROIs drop nothing
        ([3, 3, 3], 3),  # no objects: nothing is dropped
    ],
)
def test_droploss_drops_negatives_of_rare_classes(targets, kept_negatives):
    loss = Gumbel(num_classes=C, bias=-2.0, rare=torch.tensor([False, False, True]))
    z = torch.zeros(3, C, requires_grad=True)
    loss(z, torch.tensor(targets)).backward()
    used = z.grad != 0
    assert used[:, :2].all()
    assert used[:, 2].tolist() == [t == 2 or (t == 3 and i >= 3 - kept_negatives) for i, t in enumerate(targets)]


def test_droploss_drops_background_by_the_rare_share_of_the_objects_each_cell_by_itself(monkeypatch):
    # Of the objects, half are rare: background keeps a cell where its draw is up to 1/2, objects keep none.
    draws = torch.tensor([[0.4, 0.4, 0.4], [0.6, 0.6, 0.6], [0.4, 0.6, 0.4], [0.6, 0.4, 0.6]])
    monkeypatch.setattr(torch, "rand_like", lambda y: draws)
    loss = Gumbel(num_classes=C, bias=-2.0, rare=torch.tensor([False, True, True]))
    z = torch.zeros(4, C, requires_grad=True)
    loss(z, torch.tensor([0, 2, 3, 3])).backward()
    assert (z.grad != 0).tolist() == [
        [True, False, False],
        [True, False, True],
        [True, False, True],
        [True, True, False],
    ]


def test_eqlv2_over_three_steps():
    loss = EQLv2(num_classes=C, gamma=12.0, mu=0.8, alpha=4.0)
    y = np.eye(C + 1)[TARGETS]
    gathered = np.zeros((2, C))
    for step in range(3):
        z = logits(C + 1, seed=step)
        negative = np.ones(C + 1)
        if step:
            negative[:C] = 1 / (1 + np.exp(-12 * (gathered[0] / gathered[1] - 0.8)))
        weight = np.where(y > 0, 1 + 4 * (1 - negative), negative)
        assert loss_of(loss, z) == pytest.approx((weight * bce(z, y)).sum() / 6, rel=1e-4)
        gradient = np.abs(expit(z) - y) * weight
        gathered += np.stack([(gradient * y).sum(0)[:C], (gradient * (1 - y)).sum(0)[:C]])
        np.testing.assert_allclose(loss.positive_gradient.numpy(), gathered[0], rtol=1e-4)
        np.testing.assert_allclose(loss.negative_gradient.numpy(), gathered[1], rtol=1e-4)
    assert (weight[:, :C] != 1).all() and (weight[:, C] == 1).all()


def test_eqlv2_by_hand():
    loss = EQLv2(num_classes=1, gamma=1.0, mu=0.0, alpha=2.0)
    # z = 0: every gradient is 1/2, so G+ = 1/2, G- = 1, r = 1/2.
    loss_of(loss, np.zeros((3, 2)), [0, 1, 1])
    positive, negative = (w.tolist() for w in loss.weights())
    assert negative == pytest.approx([1 / (1 + math.exp(-0.5)), 1.0])
    assert positive == pytest.approx([1 + 2 * (1 - 0.6224593), 1.0])


def test_a_background_output_takes_from_every_class():
    z = logits(C + 1)
    p = expit(z)
    expected = np.concatenate([p[:, :C] * (1 - p[:, C:]), p[:, C:]], axis=1)
    np.testing.assert_allclose(scores_of(EQLv2(num_classes=C, gamma=1.0, mu=0.0, alpha=1.0), z), expected, rtol=1e-4)
    ecm = ECM(num_classes=C, counts=counts(), background_ratio=6.0, temperature=0.0)
    np.testing.assert_allclose(scores_of(ecm, z), expected, rtol=1e-4)


def test_ecm_is_the_authors_pair_of_exponentials():
    z, y = logits(C + 1), np.eye(C + 1)[TARGETS]
    n = np.append(COUNTS, 6.3313 * COUNTS.sum())
    rest = n.sum() - n
    fourth = n**0.25 + rest**0.25
    up, down = np.exp(z + np.log(fourth / rest**0.25)), np.exp(-z + np.log(fourth / n**0.25))
    a = rest / n
    terms = -(y * np.log(up / (up + down)) + (1 - y) * np.log(down / (up + down))) * a * np.log((1 + a) / a)
    loss = ECM(num_classes=C, counts=counts(), background_ratio=6.3313, temperature=20.0)
    assert loss_of(loss, z) == pytest.approx(terms.sum() / 6, rel=1e-4)


def test_seesaw_counts_a_class_not_yet_seen_as_seen_once():
    loss = Seesaw(num_classes=C, p=0.5, q=0.0, eps=0.01, temperature=0.0)
    # By hand: class 0 seen 4 times, the others never, so their factors are (1/4)^0.5 = 1/2; and log 2 of objectness.
    expected = math.log(1 + 1 / 2 + 1 / 2) + math.log(2)
    assert loss_of(loss, np.zeros((4, C + 2)), [0, 0, 0, 0]) == pytest.approx(expected)


def seesaw_by_loops(z, targets, seen, p, q, eps):
    total = 0.0
    for row, t in zip(z, targets, strict=True):
        total -= log_softmax(row[C:])[int(t == C)]
        if t == C:
            continue
        s = softmax(row[:C])
        factors = []
        for j in range(C):
            mitigation = (max(seen[j], 1) / max(seen[t], 1)) ** p if seen[j] < seen[t] else 1.0
            ratio = s[j] / max(s[t], eps)
            factors.append(mitigation * (ratio**q if ratio > 1 else 1.0))
        total -= np.log(np.exp(row[t]) / (np.array(factors) * np.exp(row[:C])).sum())
    return total / len(z)


@pytest.mark.parametrize(("p", "q", "eps"), [(0.8, 2.0, 0.01), (0.3, 1.0, 0.3)])
def test_seesaw_over_three_steps(p, q, eps):
    loss = Seesaw(num_classes=C, p=p, q=q, eps=eps, temperature=0.0)
    for step, targets in enumerate([TARGETS, np.array([0, 0, 0, 1, 3, 3]), np.array([0, 1, 2, 2, 0, 0])]):
        z = logits(C + 2, seed=step)
        seen = loss.seen.numpy() + np.bincount(targets, minlength=C + 1)[:C]
        assert loss_of(loss, z, targets) == pytest.approx(seesaw_by_loops(z, targets, seen, p, q, eps), rel=1e-4)
        assert loss.seen.tolist() == seen.tolist()
    assert loss.seen.tolist() == [8, 3, 3]


def test_seesaw_by_hand():
    loss = Seesaw(num_classes=2, p=0.5, q=2.0, eps=0.01, temperature=0.0)
    # Class 0 seen 4 times, class 1 once: for class 0 the negative counts (1/4)^0.5 = 1/2, for class 1 fully.
    expected = (4 * math.log(1.5) + math.log(2) + 5 * math.log(2)) / 5
    assert loss_of(loss, np.zeros((5, 4)), [0, 0, 0, 0, 1]) == pytest.approx(expected)
    scores = scores_of(loss, np.log([[3.0, 1.0, 4.0, 1.0]]))
    np.testing.assert_allclose(scores, [[0.75 * 0.8, 0.25 * 0.8, 0.2]], rtol=1e-5)


def test_seesaw_weights_carry_no_gradient():
    loss = Seesaw(num_classes=C, p=0.8, q=2.0, eps=0.01, temperature=0.0)
    z = torch.tensor(logits(C + 2), dtype=torch.float32, requires_grad=True)
    targets = torch.as_tensor(TARGETS)
    loss(z, targets).backward()
    with torch.no_grad():
        foreground = targets < C
        balanced = loss._balanced(z[foreground, :C], targets[foreground])
        expected = (balanced.softmax(dim=1) - one_hot(targets[foreground], C)) / 6
    torch.testing.assert_close(z.grad[foreground, :C], expected)
    assert (z.grad[~foreground, :C] == 0).all()


@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_logit_adjustment_in_training_and_post_hoc(tau):
    z, shift = logits(C + 1), tau * np.append(np.log(C * COUNTS / COUNTS.sum()), 0.0)
    loss = LogitAdjustment(num_classes=C, counts=counts(), tau=tau, post_hoc=False)
    expected = -log_softmax(z + shift, axis=1)[np.arange(6), TARGETS].mean()
    assert loss_of(loss, z) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(scores_of(loss, z), softmax(z, axis=1), rtol=1e-4)
    after = LogitAdjustment(num_classes=C, counts=counts(), tau=tau, post_hoc=True)
    assert loss_of(after, z) == pytest.approx(-log_softmax(z, axis=1)[np.arange(6), TARGETS].mean(), rel=1e-5)
    np.testing.assert_allclose(scores_of(after, z), softmax(z - shift, axis=1), rtol=1e-4)
    # By hand, counts 3 : 1: factors 3/2, 1/2 and, for the background, 1.
    two = LogitAdjustment(num_classes=2, counts=torch.tensor([3.0, 1.0]), tau=1.0, post_hoc=False)
    assert loss_of(two, np.zeros((1, 3)), [1]) == pytest.approx(math.log(6))


def test_equal_counts_need_no_adjustment():
    z, equal = logits(C + 1), torch.full((C,), 7.0)
    plain = softmax(z, axis=1)
    adjusted = LogitAdjustment(num_classes=C, counts=equal, tau=1.0, post_hoc=True)
    np.testing.assert_allclose(scores_of(adjusted, z), plain, rtol=1e-4)
    fracal = FRACAL(num_classes=C, shares=[1 / C] * C, dimensions=[1.0] * C, exponent=2.0)
    np.testing.assert_allclose(scores_of(fracal, z), plain, rtol=1e-4)
    # Shares of images that each show all classes: as to one another nothing changes, against the background it does.
    fracal = FRACAL(num_classes=C, shares=[1.0] * C, dimensions=[1.0] * C, exponent=2.0)
    found = scores_of(fracal, z)
    np.testing.assert_allclose(found[:, 0] / found[:, 1], plain[:, 0] / plain[:, 1], rtol=1e-4)
    np.testing.assert_allclose(found[:, 0] / found[:, C], plain[:, 0] / plain[:, C] / 3 ** np.log10(np.e), rtol=1e-4)


@pytest.mark.parametrize("max_margin", [0.5, 0.2])
def test_ldam_and_its_deferred_weights(max_margin):
    cosines = np.random.default_rng(0).uniform(-1, 1, size=(6, C + 1))
    arguments = {"num_classes": C, "counts": counts(), "max_margin": max_margin, "scale": 30.0}
    margin = np.append(max_margin * COUNTS**-0.25 / (COUNTS**-0.25).max(), 0.0)
    shifted = cosines - np.eye(C + 1)[TARGETS] * margin
    terms = -log_softmax(30 * shifted, axis=1)[np.arange(6), TARGETS]
    loss = LDAM(**arguments, reweight_from=10, beta=0.99)
    with EventStorage(9):
        assert loss_of(loss, 30 * cosines) == pytest.approx(terms.mean(), rel=1e-5)
    weight = (1 - 0.99) / (1 - 0.99**COUNTS)
    weight = np.append(weight / weight.sum() * C, 1.0)[TARGETS]
    with EventStorage(10):
        assert loss_of(loss, 30 * cosines) == pytest.approx((weight * terms).sum() / weight.sum(), rel=1e-5)
    # By hand, counts 16 : 1: the margins are 1/4 and 1/2; the background has none.
    two = LDAM(num_classes=2, counts=torch.tensor([16.0, 1.0]), max_margin=0.5, scale=2.0)
    assert two.margin.tolist() == pytest.approx([0.25, 0.5, 0.0])
    assert loss_of(two, np.zeros((1, 3)), [1]) == pytest.approx(math.log(1 + 2 * math.e))


def test_norcal():
    z = logits(C + 1)
    up = np.exp(z)
    up[:, :C] /= COUNTS**0.6
    loss = NorCal(num_classes=C, counts=counts(), gamma=0.6)
    np.testing.assert_allclose(scores_of(loss, z), up / up.sum(axis=1, keepdims=True), rtol=1e-4)
    assert loss_of(loss, z) == pytest.approx(-log_softmax(z, axis=1)[np.arange(6), TARGETS].mean(), rel=1e-5)
    # By hand, counts 4 and 1, gamma 1/2: 1/2, 1 and 1.
    two = NorCal(num_classes=2, counts=torch.tensor([4.0, 1.0]), gamma=0.5)
    np.testing.assert_allclose(scores_of(two, np.zeros((1, 3))), [[0.2, 0.4, 0.4]], rtol=1e-5)


@pytest.mark.parametrize("exponent", [2.0, 1.0, 0.0])
def test_fracal(exponent):
    # The authors' weights: -log10 of the images with the class over all, less log10 of C.
    z, dimensions, images = logits(C + 1), np.array([1.8, 1.3, 1.0]), np.array([70, 30, 5])
    moved = z.copy()
    moved[:, :C] += -np.log10(images / 80) - np.log10(C)
    p = softmax(moved, axis=1)
    p[:, :C] /= dimensions**exponent
    loss = FRACAL(num_classes=C, shares=(images / 80).tolist(), dimensions=dimensions.tolist(), exponent=exponent)
    np.testing.assert_allclose(scores_of(loss, z), p / p.sum(axis=1, keepdims=True), rtol=1e-4)
    # By hand: thirds, of which the first is divided by 4.
    two = FRACAL(num_classes=2, shares=[0.5, 0.5], dimensions=[2.0, 1.0], exponent=2.0)
    np.testing.assert_allclose(scores_of(two, np.zeros((1, 3))), [[1 / 9, 4 / 9, 4 / 9]], rtol=1e-5)
    for dimensions in ([2.0], [2.0, "a"], [2.0, math.inf]):
        with pytest.raises(ValueError, match=r"FRACAL.DIMENSIONS.*expected 2 dimensions > 0"):
            FRACAL(num_classes=2, shares=[0.5, 0.5], dimensions=dimensions, exponent=2.0)


def test_normed_linear():
    linear = torch.nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        linear.bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[5.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(NormedLinear(linear, 20.0)(x), torch.tensor([[13.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(NormedLinear(linear, 10.0, bias=False)(x), torch.tensor([[6.0, 0.0], [0.0, 0.0]]))
    half = NormedLinear(linear, 20.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert half(1e4 * x).dtype == torch.float32
    with pytest.raises(ValueError, match="expected a number > 0"):
        NormedLinear(linear, -1.0)
