"""E9-E11 against the paper's numbers and formulas worked out by hand."""

import math

import pytest
import torch

from reg_d2.losses import SCHEMES, class_weights, imbalance_ratio

DETECTION = [200, 100, 700, 1500, 50, 800, 300]
SEGMENTATION = [100, 50, 500, 400, 150]


def test_the_paper_s_weights():
    w = class_weights(DETECTION)
    assert sum(DETECTION) == 3650
    assert w[4].item() == 73.0
    assert round(w[3].item(), 4) == 2.4333
    assert class_weights(SEGMENTATION)[1].item() == 1200 / 50


def test_schemes_by_hand():
    w = class_weights(DETECTION, "sqrt_inverse_frequency")
    assert w[4].item() == pytest.approx(math.sqrt(73))
    w = class_weights(DETECTION, "effective_number")
    assert w[4].item() == pytest.approx(0.001 / (1 - 0.999**50), rel=1e-6)
    assert class_weights(DETECTION, "uniform").tolist() == [1.0] * 7
    assert class_weights([3, 4], [1.0, 5.0]).tolist() == [1.0, 5.0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_normalized_weights_have_mean_one_and_keep_their_order(scheme):
    raw, w = class_weights(DETECTION, scheme), class_weights(DETECTION, scheme, normalize=True)
    assert w.mean().item() == pytest.approx(1.0)
    torch.testing.assert_close(w / w[0], raw / raw[0])
    assert torch.isfinite(w).all()


@pytest.mark.parametrize("scheme", ["inverse_frequency", "sqrt_inverse_frequency", "effective_number"])
def test_a_class_without_annotations_is_named(scheme):
    with pytest.raises(ValueError, match="no annotation of 'bus stop'"):
        class_weights([3, 0], scheme, names=["pavilion", "bus stop"])
    assert torch.isfinite(class_weights([3, 0], "uniform")).all()
    assert class_weights([3, 0], [1.0, 2.0]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("counts", "scheme", "message"),
    [
        ([3, -1], "uniform", "count of class 1 is -1"),
        ([3, math.nan], "uniform", "count of class 1 is nan"),
        ([3, 4], "cubic", "inverse_frequency, sqrt_inverse_frequency, effective_number, uniform"),
        ([3, 4], [1.0], "expected 2, one per class"),
        ([3, 4], [1.0, -1.0], "finite numbers >= 0"),
    ],
)
def test_wrong_input_is_named(counts, scheme, message):
    with pytest.raises(ValueError, match=message):
        class_weights(counts, scheme)


def test_imbalance_ratio():
    assert imbalance_ratio(DETECTION) == 30.0
    assert imbalance_ratio([5, 0]) == math.inf
    assert imbalance_ratio([]) == 1.0
