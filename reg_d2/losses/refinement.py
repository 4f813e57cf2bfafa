"""E4: distances to the nearest ground truth, and the refinement term g made from them.

Shape shorthand:
    N: boxes (ROIs) of one image      M: ground-truth objects of that image
    C: object classes                 R, H, W: masks and their height and width
"""

import torch
from torch import Tensor

from .focal import check_choice

METRICS = ("center", "edge")
DIRECTIONS = ("near", "far", "split")

# Elements that one block of the second pass of the distance transform may hold (256 MiB of float32).
_BLOCK_ELEMENTS = 1 << 26


def box_class_distance(
    boxes: Tensor,
    gt_boxes: Tensor,
    gt_classes: Tensor,
    num_classes: int,
    image_size: tuple[int, int],
    metric: str = "center",
) -> Tensor:
    """Distance d_ic from each box to the nearest ground-truth object of each class, over the image diagonal (E4).

    Args:
        boxes: (N, 4) float, XYXY in pixels.
        gt_boxes: (M, 4) float, XYXY in pixels, M >= 0.
        gt_classes: (M,) integer, in [0, C).
        num_classes: C.
        image_size: (height, width) in pixels.
        metric: ``center``, between the boxes' centres; ``edge``, the gap between their edges, 0 where they overlap.

    Returns:
        (N, C) float32, >= 0, inf where the image has no object of the class.

    Raises:
        ValueError: unknown metric, or boxes that are not (., 4).
    """
    check_choice("metric", metric, METRICS)
    for name, value in (("boxes", boxes), ("gt_boxes", gt_boxes)):
        if value.dim() != 2 or value.shape[1] != 4:
            raise ValueError(f"{name} {tuple(value.shape)}: expected (., 4), XYXY")
    if gt_classes.shape != gt_boxes.shape[:1]:
        raise ValueError(f"gt_classes {tuple(gt_classes.shape)}: expected ({len(gt_boxes)},), one a ground-truth box")
    boxes, gt_boxes = boxes.float(), gt_boxes.float()
    if metric == "center":
        offset = _centers(boxes)[:, None] - _centers(gt_boxes)[None]
    else:
        low = torch.maximum(boxes[:, None, :2], gt_boxes[None, :, :2])
        high = torch.minimum(boxes[:, None, 2:], gt_boxes[None, :, 2:])
        offset = (low - high).clamp(min=0.0)
    height, width = image_size
    pairwise = offset.square().sum(-1).sqrt() / (height**2 + width**2) ** 0.5
    nearest = torch.full((len(boxes), num_classes), float("inf"), device=boxes.device)
    return nearest.scatter_reduce(1, gt_classes.long().expand(len(boxes), -1), pairwise, "amin")


def mask_distance(masks: Tensor) -> Tensor:
    """Exact Euclidean distance of each pixel to the nearest foreground pixel, over the mask's diagonal (E4).

    Two passes (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012): down the columns,
    then the lower envelope along the rows, here as a plain minimum, which on a device beats the sequential form.

    Args:
        masks: (R, H, W) bool, or numbers of which those > 0.5 are foreground.

    Returns:
        (R, H, W) float32 on the masks' device: 0 inside, inf everywhere for an empty mask. Distances are between
        pixel centres; the diagonal is sqrt(H^2 + W^2).

    Raises:
        ValueError: masks are not (R, H, W).
    """
    if masks.dim() != 3:
        raise ValueError(f"masks {tuple(masks.shape)}: expected (R, H, W)")
    height, width = masks.shape[1:]
    if masks.numel() == 0:
        return masks.new_zeros(masks.shape, dtype=torch.float32)
    masks = masks if masks.dtype == torch.bool else masks > 0.5
    columns = _column_distance(masks).square()  # (R, H, W), inf in a column without foreground
    x = torch.arange(width, device=masks.device, dtype=torch.float32)
    squared = torch.full_like(columns, float("inf"))
    block = max(1, _BLOCK_ELEMENTS // masks.numel())
    for start in range(0, width, block):
        gap = (x[:, None] - x[None, start : start + block]).square()  # (W, block)
        candidates = columns[:, :, None, start : start + block] + gap
        squared = torch.minimum(squared, candidates.amin(dim=-1))
    return squared.sqrt() / (height**2 + width**2) ** 0.5


def _column_distance(masks: Tensor) -> Tensor:
    """(R, H, W) rows to the nearest foreground pixel of the same column; inf where the column has none."""
    height = masks.shape[1]
    rows = torch.arange(height, device=masks.device, dtype=torch.float32)[:, None]
    inf = float("inf")
    above = torch.where(masks, rows, -inf).cummax(dim=1).values
    below = torch.where(masks, rows, inf).flip(1).cummin(dim=1).values.flip(1)
    return torch.minimum(rows - above, below - rows)


def refinement_weight(
    distance: Tensor,
    *,
    beta: float | Tensor = 10.0,
    delta: float | Tensor = 0.15,
    direction: str = "near",
    floor: float = 0.0,
    positive: Tensor | None = None,
    renormalize: bool = False,
) -> Tensor:
    """The refinement term g of a distance d (E4).

    far: g = 1 / (1 + exp(-beta (d - delta))), the paper's formula, grows with d;
    near: 1 - far, the paper's proof A.4.1, near samples weigh more;
    split: near for the positives, far for the negatives.

    With a floor f, f + (1 - f) g in place of g, so that nothing is left without weight.

    Args:
        distance: any shape, >= 0, inf where there is no object.
        beta: sharpness >= 0; a number, or a tensor that broadcasts against ``distance``, e.g. (C,).
        delta: distance at which g is 1/2; a number or a tensor like beta.
        direction: ``near``, ``far`` or ``split``.
        floor: the least value, in [0, 1].
        positive: bool, broadcastable to ``distance``; where the label is 1. Needed for ``split``.
        renormalize: divide by the mean over all elements, so that g moves emphasis and not the learning rate.

    Returns:
        float32 like ``distance``, in [floor, 1] before renormalisation. An infinite distance gives the limit (near the
        floor, far 1) without a gradient; elsewhere g is differentiable in beta and delta (E14 learns them).

    Raises:
        ValueError: unknown direction, or ``split`` without ``positive``.
    """
    check_choice("direction", direction, DIRECTIONS)
    if direction == "split" and positive is None:
        raise ValueError("direction 'split' needs positive: the bool tensor that tells positives from negatives")
    distance = distance if distance.dtype == torch.float64 else distance.float()
    # Replaced before the arithmetic, not after: 0 * inf in the backward pass would be NaN.
    absent = torch.isinf(distance)
    x = beta * (distance.masked_fill(absent, 0.0) - delta)
    absent = absent.expand_as(x)
    if direction == "far":
        g = torch.sigmoid(x).masked_fill(absent, 1.0)
    elif direction == "near":
        g = torch.sigmoid(-x).masked_fill(absent, 0.0)
    else:
        positive = positive.bool().expand_as(x)
        g = torch.sigmoid(torch.where(positive, -x, x))
        g = torch.where(absent, (~positive).to(g.dtype), g)
    g = floor + (1 - floor) * g
    if renormalize and g.numel():
        g = g / g.mean().clamp(min=torch.finfo(g.dtype).tiny)
    return g


def _centers(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
