"""Precision, recall and F1 at one confidence, against cases worked out by hand."""

import numpy as np
import pytest

from reg_d2.evaluation.matching import greedy_match
from reg_d2.evaluation.operating_point import (
    ClassMatches,
    best_confidence,
    counts_above,
    f1_score,
    operating_point,
    rates,
    smooth,
)

GRID = np.linspace(0, 1, 1000)


def matches(true_scores, false_scores, num_gt):
    scores = np.array([*true_scores, *false_scores], dtype=float)
    return ClassMatches(scores, np.arange(len(scores)) < len(true_scores), num_gt)


def test_paper_tables_use_f1_of_the_means():
    """E18: row A of table 1 by this formula; row E of table 3 is not (a misprint of the paper)."""
    assert round(f1_score(79.10, 76.68), 2) == 77.87
    assert round(f1_score(84.36, 80.06), 2) == 82.15 != 79.80
    assert f1_score(0.0, 0.0) == 0.0


def test_counts_are_inclusive_and_start_at_the_floor():
    m = matches([0.9, 0.5, 0.001], [0.5, 0.0009], 4)
    tp, fp = counts_above(m, np.array([0.0, 0.5, 0.5001, 0.9, 1.0]))
    assert tp.tolist() == [3, 2, 1, 1, 0]
    assert fp.tolist() == [1, 1, 0, 0, 0]


def test_rates_by_hand():
    p, r, f1 = rates(np.array([2, 1, 0]), np.array([1, 0, 0]), 2)
    assert p == pytest.approx([2 / 3, 1, 0]) and r == pytest.approx([1, 1 / 2, 0])
    assert f1 == pytest.approx([4 / 5, 2 / 3, 0])
    assert f1 == pytest.approx([f1_score(*x) for x in zip(p, r, strict=True)])


def test_smoothing_is_a_101_wide_box_with_repeated_ends():
    spike = np.zeros(1000)
    spike[500] = 1
    expected = np.where(abs(np.arange(1000) - 500) <= 50, 1 / 101, 0)
    np.testing.assert_allclose(smooth(spike), expected, atol=1e-15)
    end = np.zeros(1000)
    end[0] = 1  # repeated 50 times before the curve: 51 of 101 at the first point
    assert smooth(end)[[0, 1, 50, 51]] == pytest.approx([51 / 101, 50 / 101, 1 / 101, 0])
    np.testing.assert_allclose(smooth(np.full(1000, 0.3)), 0.3, atol=1e-15)


def test_confidence_is_the_first_on_a_plateau_and_not_a_lone_spike():
    curve = np.where((GRID > 0.2) & (GRID <= 0.6), 0.1 + 0.2, 0.0)  # grid points 200 to 599
    assert best_confidence(curve, GRID) == GRID[250]
    spike = np.where((GRID > 0.2) & (GRID <= 0.6), 0.3, 0.0)
    spike[900] = 1.0
    assert best_confidence(spike, GRID) == GRID[250]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_errors_do_not_choose_the_confidence(seed):
    """With period 101 every window inside holds the same values in another order: equal sums, unequal last bits."""
    curve = np.zeros(1000)
    curve[200:900] = np.resize(np.random.default_rng(seed).uniform(0.8, 0.9, 101), 700)
    assert best_confidence(curve, GRID) == GRID[250]


def test_operating_point_by_hand():
    """Two classes; up to 0.2 a false sign costs, from 0.6 the pavilion is missed: the best lies between."""
    sign = matches([0.9, 0.7], [0.8], 2)  # up to 0.7: P 2/3, R 1, F1 4/5
    pavilion = matches([0.6], [0.2], 1)  # up to 0.2: P 1/2, R 1, F1 2/3; then 1
    result = operating_point({"sign": sign, "pavilion": pavilion}, fixed_confidence=0.85)
    assert result["confidence"] == GRID[250]
    precision = (2 / 3 + 1) / 2
    expected = {"precision": precision, "recall": 1, "f1": 2 * precision / (precision + 1), "f1_mean_of_classes": 0.9}
    expected["f1_mean_of_best"] = 0.9
    assert {k: result[k] for k in expected} == pytest.approx({k: 100 * v for k, v in expected.items()})
    assert result["per_class"]["sign"] == pytest.approx(
        {
            "precision": 200 / 3,
            "recall": 100,
            "f1": 80,
            "true_positives": 2,
            "false_positives": 1,
            "missed": 0,
            "best_f1": 80,
            "best_f1_confidence": 0.0,
        }
    )
    assert result["per_class"]["pavilion"]["best_f1_confidence"] == GRID[200]
    fixed = result["at_fixed_confidence"]
    # 0.85: one sign of two, no pavilion (precision 0, as nothing is found)
    assert fixed["confidence"] == 0.85
    assert (fixed["precision"], fixed["recall"]) == pytest.approx((50, 25))
    assert fixed["f1"] == pytest.approx(100 / 3) and fixed["f1_mean_of_classes"] == pytest.approx(100 / 3)
    assert fixed["per_class"]["pavilion"]["missed"] == 1


def test_the_three_f1_differ():
    """The sign is best at a high confidence, the rail at a low one."""
    sign, rail = matches([0.9], [0.5, 0.5], 1), matches([0.4], [], 1)
    result = operating_point({"sign": sign, "rail": rail})
    assert result["confidence"] == 0.0
    assert result["f1"] == pytest.approx(80)  # P (1/3 + 1) / 2, R 1
    assert result["f1_mean_of_classes"] == pytest.approx(75)  # (1/2 + 1) / 2
    assert result["f1_mean_of_best"] == pytest.approx(100)


def test_class_without_ground_truth_is_left_out_of_the_means():
    sign = matches([0.9], [], 1)
    alone = operating_point({"sign": sign})
    result = operating_point({"sign": sign, "ghost": matches([], [0.9] * 5, 0)})
    assert {k: v for k, v in result.items() if k not in ("per_class", "at_fixed_confidence")} == {
        k: v for k, v in alone.items() if k not in ("per_class", "at_fixed_confidence")
    }
    ghost = result["per_class"]["ghost"]
    assert ghost["precision"] is ghost["recall"] is ghost["f1"] is ghost["best_f1"] is None
    assert (ghost["true_positives"], ghost["false_positives"], ghost["missed"]) == (0, 5, 0)


def test_no_predictions_and_no_ground_truth():
    zero = operating_point({"sign": matches([], [], 3)})
    assert [zero[k] for k in ("confidence", "precision", "recall", "f1", "f1_mean_of_best")] == [0.0] * 5
    assert zero["per_class"]["sign"]["missed"] == 3
    for nothing in (operating_point({}), operating_point({"sign": matches([], [0.3], 0)})):
        assert all(nothing[k] is None for k in ("confidence", "precision", "recall", "f1", "f1_mean_of_best"))
    with pytest.raises(ValueError, match="fixed_confidence=50"):
        operating_point({}, fixed_confidence=50)


@pytest.mark.parametrize(
    ("ious", "ignore", "expected"),
    [
        ([[0.5], [0.9]], [0], [0, -1]),  # the first in score takes the object, 0.5 counts
        ([[0.9, 0.6], [0.8, 0.7]], [0, 0], [0, 1]),  # falls back to its second best
        ([[0.49, 0.9]], [0, 1], [1]),  # only crowd left
        ([[0.5, 0.9]], [0, 1], [0]),  # an object before a crowd of higher IoU
        ([[0.0, 0.6], [0.0, 0.6]], [0, 1], [1, 1]),  # a crowd may be taken again
        ([[0.7, 0.7]], [0, 0], [1]),  # of equal IoUs COCO takes the last
        ([[0.4, 0.1]], [0, 0], [-1]),
    ],
)
def test_matching_by_hand(ious, ignore, expected):
    ious, crowd = np.array(ious), np.array(ignore, dtype=bool)
    d, g = np.indices(ious.shape).reshape(2, -1)
    given = (d, g, ious.ravel(), np.arange(len(ious)), crowd[None], crowd)
    assert greedy_match(*given, np.array([0.5]))[0, 0].tolist() == expected
