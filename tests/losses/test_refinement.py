"""E4 against numbers worked out by hand and scipy's distance transform."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from reg_d2.losses import box_class_distance, mask_distance, refinement_weight

SIZE = (300, 400)  # diagonal 500


def test_center_distance_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [100.0, 100.0, 120.0, 120.0]])
    gt = torch.tensor([[30.0, 40.0, 50.0, 60.0], [0.0, 0.0, 20.0, 20.0], [100.0, 100.0, 120.0, 120.0]])
    d = box_class_distance(boxes, gt, torch.tensor([0, 2, 2]), 4, SIZE)
    inf = math.inf
    expected = torch.tensor([[50 / 500, inf, 0.0, inf], [math.hypot(70, 60) / 500, inf, 0.0, inf]], dtype=torch.float32)
    torch.testing.assert_close(d, expected)


def test_edge_distance_is_the_gap_and_zero_where_boxes_overlap():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    gt = torch.tensor([[40.0, 50.0, 60.0, 60.0], [5.0, 5.0, 90.0, 90.0], [13.0, 0.0, 20.0, 10.0]])
    d = box_class_distance(boxes, gt, torch.tensor([0, 1, 2]), 3, SIZE, metric="edge")
    torch.testing.assert_close(d, torch.tensor([[50 / 500, 0.0, 3 / 500]]))


@pytest.mark.parametrize("metric", ["center", "edge"])
def test_box_distance_equals_a_loop_over_everything(metric):
    generator = torch.Generator().manual_seed(1)

    def random_boxes(n):
        corner = torch.rand(n, 2, generator=generator) * 200
        return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * 90 + 1], dim=1)

    boxes, gt = random_boxes(30), random_boxes(12)
    classes = torch.randint(0, 5, (12,), generator=generator)
    expected = torch.full((30, 6), math.inf)
    for i, a in enumerate(boxes.tolist()):
        for b, c in zip(gt.tolist(), classes.tolist(), strict=True):
            if metric == "center":
                dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
            else:
                dx = max(b[0] - a[2], a[0] - b[2], 0)
                dy = max(b[1] - a[3], a[1] - b[3], 0)
            expected[i, c] = min(expected[i, c].item(), math.hypot(dx, dy) / 500)
    torch.testing.assert_close(box_class_distance(boxes, gt, classes, 6, SIZE, metric=metric), expected)


def test_box_distance_without_objects_or_boxes():
    boxes, none = torch.rand(3, 4), torch.zeros(0, 4)
    classes = torch.zeros(0, dtype=torch.long)
    assert torch.isinf(box_class_distance(boxes, none, classes, 7, SIZE)).all()
    assert box_class_distance(none, boxes, torch.zeros(3, dtype=torch.long), 7, SIZE).shape == (0, 7)
    with pytest.raises(ValueError, match="center, edge"):
        box_class_distance(boxes, none, classes, 7, SIZE, metric="manhattan")
    with pytest.raises(ValueError, match="XYXY"):
        box_class_distance(torch.rand(3, 5), none, classes, 7, SIZE)


@pytest.mark.parametrize("shape", [(28, 28), (9, 31), (40, 5), (1, 6)])
@pytest.mark.parametrize("density", [0.003, 0.1, 0.7])
def test_mask_distance_equals_scipy(shape, density):
    rng = np.random.default_rng(int(density * 1000) + shape[0])
    masks = rng.random((6, *shape)) < density
    masks[:, shape[0] // 2, shape[1] // 2] = True  # scipy has no answer for an empty mask
    expected = np.stack([distance_transform_edt(~m) for m in masks]) / math.hypot(*shape)
    ours = mask_distance(torch.from_numpy(masks))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)


def test_mask_distance_is_the_same_in_blocks(monkeypatch):
    masks = torch.rand(3, 12, 17, generator=torch.Generator().manual_seed(0)) < 0.05
    whole = mask_distance(masks)
    monkeypatch.setattr("reg_d2.losses.refinement._BLOCK_ELEMENTS", masks.numel() * 5)
    assert torch.equal(mask_distance(masks), whole)


def test_mask_distance_of_empty_and_full_masks():
    masks = torch.zeros(2, 8, 8)
    masks[1] = 1
    d = mask_distance(masks)
    assert torch.isinf(d[0]).all()
    assert (d[1] == 0).all()
    assert mask_distance(torch.zeros(0, 28, 28, dtype=torch.bool)).shape == (0, 28, 28)
    with pytest.raises(ValueError, match="expected \\(R, H, W\\)"):
        mask_distance(torch.zeros(8, 8))


def test_refinement_by_hand_and_near_plus_far_is_one():
    d = torch.tensor([0.0, 0.15, 0.5, math.inf])
    far = refinement_weight(d, direction="far")
    expected = [1 / (1 + math.exp(1.5)), 0.5, 1 / (1 + math.exp(-3.5)), 1.0]
    torch.testing.assert_close(far, torch.tensor(expected))
    torch.testing.assert_close(refinement_weight(d) + far, torch.ones(4))
    assert refinement_weight(d, direction="far", beta=0.0).tolist()[:3] == [0.5] * 3


def test_split_is_near_for_positives_and_far_for_negatives():
    d = torch.tensor([[0.1, math.inf], [0.1, math.inf]])
    positive = torch.tensor([[True, True], [False, False]])
    near, far = refinement_weight(d), refinement_weight(d, direction="far")
    torch.testing.assert_close(
        refinement_weight(d, direction="split", positive=positive), torch.stack([near[0], far[1]])
    )
    with pytest.raises(ValueError, match="needs positive"):
        refinement_weight(d, direction="split")


def test_floor_lifts_every_direction_and_keeps_what_is_infinitely_far():
    d = torch.tensor([0.15, math.inf])
    positive = torch.tensor([True, False])
    for direction, by_hand in (("near", [0.6, 0.2]), ("far", [0.6, 1.0]), ("split", [0.6, 1.0])):
        g = refinement_weight(d, direction=direction, floor=0.2, positive=positive)  # 0.2 + 0.8 g
        torch.testing.assert_close(g, torch.tensor(by_hand))
    torch.testing.assert_close(refinement_weight(d, floor=1.0), torch.ones(2))


def test_renormalized_has_mean_one_and_survives_zeros():
    d = torch.rand(9, 4)
    g = refinement_weight(d, renormalize=True)
    assert g.mean().item() == pytest.approx(1.0)
    plain = refinement_weight(d)
    torch.testing.assert_close(g, plain / plain.mean())
    nothing = refinement_weight(torch.full((3, 2), math.inf), renormalize=True)
    assert (nothing == 0).all()
    assert refinement_weight(torch.zeros(0, 4), renormalize=True).shape == (0, 4)


@pytest.mark.parametrize("direction", ["near", "far", "split"])
def test_gradients_reach_beta_and_delta_and_are_finite_at_infinite_distance(direction):
    d = torch.rand(6, 3, dtype=torch.float64)
    d[0] = math.inf
    positive = torch.arange(6)[:, None] % 2 == 0
    beta = torch.tensor([5.0, 10.0, 20.0], dtype=torch.float64, requires_grad=True)
    delta = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64, requires_grad=True)

    def g(b, s):
        return refinement_weight(d, beta=b, delta=s, direction=direction, positive=positive)

    assert torch.autograd.gradcheck(g, (beta, delta))
    g(beta, delta)[0].sum().backward()
    assert (beta.grad == 0).all()
    assert (delta.grad == 0).all()


def test_unknown_direction_lists_the_valid_ones():
    with pytest.raises(ValueError, match="near, far, split"):
        refinement_weight(torch.rand(3), direction="sideways")
