"""E12 on problems whose multipliers geometry gives, and its bookkeeping against sums written out by hand."""

import numpy as np
import pytest
import torch

from reg_d2.optim import PrimalDual

ACUTE = np.array([[0.0, 0.0], [2.0, 0.3], [0.7, 1.8]])
OBTUSE = np.array([[0.0, 0.0], [3.0, 0.0], [1.4, 0.5]])


def solve(points, class_weight, steps=4000, rate=0.02):
    """min_x sum_c a_c |x - p_c|^2 / 2 with equal terms: gradient steps on x, each followed by the dual update."""
    dual = PrimalDual(class_weight, rate=rate, momentum=0.0)
    points = torch.from_numpy(points).float()
    x = torch.zeros(2)
    for _ in range(steps):
        difference = x - points
        x = x - 0.1 * (dual.weights()[:, None] * difference).sum(0)
        dual.update((x - points).square().sum(1) / 2, torch.ones(len(points)))
    return x, dual


def test_multipliers_of_an_equality_constrained_quadratic():
    # Equal terms: x is the circumcentre. Stationary there: the weights a_c + mu_c are its barycentric coordinates,
    # in the ratio sin 2A : sin 2B : sin 2C of the triangle's angles; the multipliers sum to 0.
    class_weight = torch.tensor([1.0, 0.2, 0.5])
    x, dual = solve(ACUTE, class_weight)
    sides = [ACUTE[(i + 1) % 3] - ACUTE[i] for i in range(3)]
    angles = [
        np.arccos(-sides[i] @ sides[i - 1] / np.linalg.norm(sides[i]) / np.linalg.norm(sides[i - 1])) for i in range(3)
    ]
    barycentric = np.sin(2 * np.array(angles)) / np.sin(2 * np.array(angles)).sum()
    np.testing.assert_allclose(x.numpy(), barycentric @ ACUTE, atol=1e-4)
    np.testing.assert_allclose(dual.multipliers.numpy(), 1.7 * barycentric - class_weight.numpy(), atol=1e-4)
    np.testing.assert_allclose(dual.violation().numpy(), 0, atol=1e-4)


def test_weights_are_projected_where_the_multipliers_would_be_negative():
    # Barycentric coordinate of an obtuse triangle's circumcentre < 0: no weights >= 0 make the terms equal.
    class_weight = torch.tensor([1.0, 1.0, 1.0])
    dual = PrimalDual(class_weight, rate=0.02, momentum=0.0)
    points, x = torch.from_numpy(OBTUSE).float(), torch.zeros(2)
    for _ in range(2000):
        x = x - 0.02 * (dual.weights()[:, None] * (x - points)).sum(0)
        dual.update((x - points).square().sum(1) / 2, torch.ones(3))
        assert (dual.weights() >= 0).all()
    assert dual.weights()[2] == 0 and dual.multipliers[2] == -1


def test_one_class_far_below_the_mean_is_projected_to_exactly_zero():
    dual = PrimalDual(torch.tensor([0.3, 1.0]), rate=1.0, momentum=0.0)
    dual.update(torch.tensor([0.0, 8.0]), torch.tensor([4.0, 2.0]))  # means 0 and 4, h = -2, +2
    assert dual.weights().tolist() == [0.0, 3.0]


def test_a_class_that_the_batch_lacks_is_left_alone():
    dual = PrimalDual(None, num_classes=3, rate=0.1, momentum=0.9)
    dual.update(torch.tensor([2.0, 9.0, 0.0]), torch.tensor([2.0, 3.0, 0.0]))
    # Means 1 and 3 start at the first values; the third class is not in the mean over classes (2).
    torch.testing.assert_close(dual.running_loss, torch.tensor([1.0, 3.0, 0.0]))
    torch.testing.assert_close(dual.multipliers, torch.tensor([-0.1, 0.1, 0.0]))
    assert dual.seen.tolist() == [True, True, False]
    dual.update(torch.tensor([20.0, 0.0, 0.0]), torch.tensor([2.0, 0.0, 0.0]))
    # 0.9 * 1 + 0.1 * 10 = 1.9; the mean over the two seen is 2.45; only the class of the batch moves.
    torch.testing.assert_close(dual.running_loss, torch.tensor([1.9, 3.0, 0.0]))
    torch.testing.assert_close(dual.multipliers, torch.tensor([-0.1 - 0.055, 0.1, 0.0]))
    before = {k: v.clone() for k, v in dual.state_dict().items()}
    dual.update(torch.zeros(3), torch.zeros(3))
    assert all(torch.equal(v, before[k]) for k, v in dual.state_dict().items())


class Mean:
    """Stands for the workers' average: keeps what it was sent, answers with what it was given."""

    def __init__(self, answer=None):
        self.answer, self.sent = answer, []

    def __call__(self, tensor):
        self.sent.append(tensor)
        return tensor if self.answer is None else self.answer


def test_two_workers_are_one():
    generator = torch.Generator().manual_seed(0)
    one = PrimalDual(torch.rand(5, generator=generator), rate=0.3, momentum=0.8)
    workers = [PrimalDual(one.class_weight, rate=0.3, momentum=0.8) for _ in range(2)]
    for _ in range(20):
        count = torch.randint(0, 3, (2, 5), generator=generator).float()
        loss = torch.rand(2, 5, generator=generator) * count
        one.update(loss.sum(0), count.sum(0))
        reduce = Mean(torch.stack([loss, count], dim=1).mean(0))
        for worker, own_loss, own_count in zip(workers, loss, count, strict=True):
            worker.update(own_loss, own_count, reduce=reduce)
        assert len(reduce.sent) == 2 and torch.equal(torch.stack(reduce.sent).mean(0), reduce.answer)
        torch.testing.assert_close(workers[0].multipliers, one.multipliers)
        assert torch.equal(workers[0].multipliers, workers[1].multipliers)


def test_reduce_is_called_with_an_empty_batch_too():
    dual, reduce = PrimalDual(None, num_classes=2, rate=0.3, momentum=0.8), Mean()
    dual.update(torch.zeros(2), torch.zeros(2), reduce=reduce)
    assert len(reduce.sent) == 1


def test_state_dict_goes_on_to_the_bit():
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.rand(4, generator=generator), torch.randint(0, 2, (4,), generator=generator)) for _ in range(20)]
    straight = PrimalDual(None, num_classes=4, rate=0.2, momentum=0.9)
    for batch in batches[:10]:
        straight.update(*batch)
    resumed = PrimalDual(None, num_classes=4, rate=0.2, momentum=0.9)
    resumed.load_state_dict(straight.state_dict())
    for batch in batches[10:]:
        straight.update(*batch)
        resumed.update(*batch)
    assert straight.multipliers.abs().min() > 0
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in straight.state_dict().items())
    other_weights = PrimalDual(torch.full((4,), 1e-3), rate=0.2, momentum=0.9)
    other_weights.load_state_dict(straight.state_dict())
    assert (straight.multipliers < -1e-3).any() and (other_weights.weights() >= 0).all()


def test_no_gradient():
    dual = PrimalDual(None, num_classes=2, rate=0.1, momentum=0.9)
    logits = torch.ones(2, requires_grad=True)
    dual.update(logits * 3, torch.ones(2))
    assert not dual.weights().requires_grad and not list(dual.parameters())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"class_weight": None}, "num_classes"),
        ({"class_weight": torch.tensor([1.0, -1.0])}, ">= 0"),
        ({"class_weight": torch.ones(2), "rate": -1.0}, "rate"),
        ({"class_weight": torch.ones(2), "momentum": 1.0}, "momentum"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        PrimalDual(**{"rate": 0.1, "momentum": 0.9, **arguments})


def test_refuses_another_number_of_classes():
    with pytest.raises(ValueError, match=r"expected \(2,\)"):
        PrimalDual(None, num_classes=2, rate=0.1, momentum=0.9).update(torch.ones(3), torch.ones(3))
