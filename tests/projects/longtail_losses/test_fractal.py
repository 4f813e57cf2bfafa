"""Box counting on point sets whose dimension is known."""

import numpy as np
import pytest
from scipy.stats import linregress

from projects.longtail_losses.fractal import fractal_dimension


def test_by_hand():
    # Grids of 1 and 2: four quadrants are 1 -> 4 cells, slope 2; two are 1 -> 2, slope 1.
    corners = np.array([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    assert fractal_dimension(corners) == pytest.approx(2.0)
    assert fractal_dimension(corners[[0, 0, 1, 1]]) == pytest.approx(1.0)
    assert fractal_dimension(corners[[0, 0, 0, 0]]) == 1.0, "a point has dimension 0, and is taken for a line"
    assert fractal_dimension(corners[:3]) == fractal_dimension(np.zeros((0, 2))) == 1.0, "too few to tell"
    edge = np.array([*corners, [1.0, 1.0]])
    assert fractal_dimension(edge) == pytest.approx(2.0), "the far edge belongs to the last cell: still four, not five"


def test_a_plane_and_a_line():
    rng = np.random.default_rng(0)
    assert fractal_dimension(rng.random((40000, 2))) == pytest.approx(2.0, abs=0.05)
    line = np.stack([rng.random(40000), np.full(40000, 0.5)], axis=1)
    assert fractal_dimension(line) == pytest.approx(1.0, abs=0.01)


def test_against_counting_in_sets():
    points = np.random.default_rng(1).beta(0.5, 2.0, size=(90, 2))
    counts = [len({(int(x * g), int(y * g)) for x, y in points}) for g in range(1, 10)]
    slope = linregress(np.log(range(1, 10)), np.log(counts)).slope
    assert 1 < slope < 2
    assert fractal_dimension(points) == pytest.approx(slope)
    assert fractal_dimension(points, max_grid=3) == pytest.approx(
        max(1.0, linregress(np.log([1, 2, 3]), np.log(counts[:3])).slope)
    )
