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

from .classifiers import check_range, object_counts
from .fractal import training_dimensions


class PostHoc(BoxLoss):
    """Cross-entropy whose scores alone differ: it takes the checkpoints of every softmax classifier."""

    @classmethod
    def trained_as(cls, cfg) -> str:
        return "cross_entropy"


@register_box_loss("norcal")
class NorCal(PostHoc):
    """p_c = e^(z_c) / n_c^gamma, the background e^(z_b) untouched, then divided by their sum.

    Source: Pan et al., On Model Calibration for Long-Tailed Object Detection and Instance Segmentation, 2021, and its
    code (n_c there: images). Scores get smaller, so ``SCORE_THRESH_TEST`` must, too: 1e-4 in their configs.
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

    pi_c is the class's share of the objects, D_c in [1, 2] the fractal dimension of where its boxes lie in the images.
    Source: Alexandridis et al., Fractal Calibration for Long-tailed Object Detection, 2025, and its code: variant
    base10 (base10_obj where shares are of objects, as here), lambda 2.
    """

    @configurable
    def __init__(self, *, num_classes: int, counts: Tensor, dimensions: list[float], exponent: float):
        """
        Args:
            num_classes: C.
            counts: (C,) > 0.
            dimensions: C numbers D_c > 0, finite.
            exponent: lambda; 0 leaves the dimensions out.

        Raises:
            ValueError: not C positive dimensions.
        """
        super().__init__(num_classes=num_classes)
        if len(dimensions) != num_classes or not all(0 < d < math.inf for d in dimensions):
            raise ValueError(
                f"MODEL.REG.PEERS.FRACAL.DIMENSIONS is {list(dimensions)}: expected {num_classes} numbers > 0, one a "
                "class, or [] for those of DATASETS.TRAIN"
            )
        shift = torch.log10(num_classes * counts / counts.sum())
        divisor = torch.tensor([*dimensions, 1.0], dtype=torch.float32) ** exponent
        self.register_buffer("shift", torch.cat([shift, shift.new_zeros(1)]), persistent=False)
        self.register_buffer("divisor", divisor, persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.FRACAL
        own = {"counts": object_counts(cfg), "dimensions": list(node.DIMENSIONS) or training_dimensions(cfg)}
        return {**super().from_config(cfg), **own, "exponent": node.LAMBDA}

    def scores(self, logits: Tensor) -> Tensor:
        p = super().scores(logits - self.shift) / self.divisor
        return p / p.sum(dim=1, keepdim=True)
