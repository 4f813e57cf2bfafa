"""Peers that calibrate the scores of a trained softmax classifier: NorCal and FRACAL.

Trained, they are plain cross-entropy; put into the config of a checkpoint of cross-entropy (or of REG with softmax),
they change its scores. They hold no weights: such a checkpoint is loaded as it is.

Shape shorthand:
    N: ROIs      C: object classes      z: (N, C + 1) logits, last column background
"""

import math

import torch
from detectron2.config import configurable
from torch import Tensor

from reg_d2.modeling.box_loss import BoxLoss, register_box_loss
from reg_d2.modeling.settings import check_range

from .classifiers import object_counts
from .fractal import training_statistics


class PostHoc(BoxLoss):
    """Cross-entropy whose scores alone differ: it takes the checkpoints of every softmax classifier."""

    @classmethod
    def trained_as(cls, cfg) -> str:
        return "cross_entropy"


@register_box_loss("norcal")
class NorCal(PostHoc):
    """p_c = e^(z_c) / n_c^gamma, the background e^(z_b) untouched, then divided by their sum.

    Source: Pan et al., On Model Calibration for Long-Tailed Object Detection and Instance Segmentation, 2021, and its
    code (n_c there: images). Scores get smaller by up to max(n)^gamma, and so must ``SCORE_THRESH_TEST``, or frequent
    classes are cut off earlier than without it.
    """

    @configurable
    def __init__(self, *, num_classes: int, counts: Tensor, gamma: float):
        """
        Args:
            num_classes: C.
            counts: (C,) > 0.
            gamma: in [0, 1]; 0 calibrates nothing.

        Raises:
            ValueError: gamma out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.NORCAL.GAMMA", gamma, "[0, 1]")
        shift = gamma * counts.log()
        self.register_buffer("shift", torch.cat([shift, shift.new_zeros(1)]), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        gamma = cfg.MODEL.REG.PEERS.NORCAL.GAMMA
        return {**super().from_config(cfg), "counts": object_counts(cfg), "gamma": gamma}

    def scores(self, logits: Tensor) -> Tensor:
        return super().scores(logits - self.shift)


@register_box_loss("fracal")
class FRACAL(PostHoc):
    """p_c = softmax(z - log10(C pi))_c / D_c^lambda, the background's logit untouched and its D 1; then normalised.

    pi_c is the share of the training images that show the class, D_c in [1, 2] the fractal dimension of where its boxes
    lie. The shares' sum is not 1 where images show several classes, or none: then all classes move against the
    background, rare or not. A sampler changes neither of the two.
    Source: Alexandridis et al., Fractal Calibration for Long-tailed Object Detection, 2025, and its code: variant
    base10, lambda 2, of its released configs.
    """

    @configurable
    def __init__(self, *, num_classes: int, shares: list[float], dimensions: list[float], exponent: float):
        """
        Args:
            num_classes: C.
            shares: C numbers pi_c in (0, 1].
            dimensions: C numbers D_c > 0, finite.
            exponent: lambda >= 0; 0 leaves the dimensions out.

        Raises:
            ValueError: not C such dimensions or shares, or lambda out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.FRACAL.LAMBDA", exponent, "[0, inf)")
        for what, values, valid in (
            ("dimensions > 0", dimensions, [_is_number(d) and 0 < d < math.inf for d in dimensions]),
            ("shares of images in (0, 1]", shares, [_is_number(s) and 0 < s <= 1 for s in shares]),
        ):
            if len(values) != num_classes or not all(valid):
                raise ValueError(
                    f"MODEL.REG.PEERS.FRACAL.DIMENSIONS: {list(values)}; expected {num_classes} {what}, one a class, "
                    "or [] for those of DATASETS.TRAIN"
                )
        shift = torch.log10(num_classes * torch.tensor(shares, dtype=torch.float32))
        divisor = torch.tensor([*dimensions, 1.0], dtype=torch.float32) ** exponent
        self.register_buffer("shift", torch.cat([shift, shift.new_zeros(1)]), persistent=False)
        self.register_buffer("divisor", divisor, persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.FRACAL
        dimensions, shares = _given(node.DIMENSIONS)
        shares = cls.known_shares(cfg) or shares
        if not dimensions or not shares:
            measured = training_statistics(cfg)
            dimensions, shares = dimensions or measured[0], shares or measured[1]
        return {**super().from_config(cfg), "shares": shares, "dimensions": dimensions, "exponent": node.LAMBDA}

    @classmethod
    def known_shares(cls, cfg) -> list[float]:
        """C shares pi_c that need no data; none where they are of images."""
        return []

    def scores(self, logits: Tensor) -> Tensor:
        p = super().scores(logits - self.shift) / self.divisor
        return p / p.sum(dim=1, keepdim=True)


@register_box_loss("fracal_objects")
class FRACALOfObjects(FRACAL):
    """FRACAL with the class's share of the objects as pi_c, so that equal counts shift nothing.

    Source: variant base10_obj of the authors' code.
    """

    @classmethod
    def known_shares(cls, cfg) -> list[float]:
        counts = object_counts(cfg)
        return (counts / counts.sum()).tolist()


def _given(values) -> tuple[list, list]:
    """Dimensions and shares of ``FRACAL.DIMENSIONS``: [] of what is not given.

    Raises:
        ValueError: neither numbers alone nor pairs alone.
    """
    pairs = [isinstance(value, list | tuple) and len(value) == 2 for value in values]
    if values and all(pairs):
        return [dimension for dimension, _ in values], [share for _, share in values]
    if any(isinstance(value, list | tuple) for value in values):
        raise ValueError(
            f"MODEL.REG.PEERS.FRACAL.DIMENSIONS is {values}; expected one number a class, its dimension, or one pair a "
            "class, [dimension, share of the images], or []"
        )
    return list(values), []


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
