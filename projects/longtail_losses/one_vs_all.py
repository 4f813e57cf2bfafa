"""Peers with one sigmoid (or Gumbel) problem a class and no background output: BCE, RetinaNet's focal loss, GOL.

Shape shorthand:
    N: ROIs of a batch      C: object classes      y: (N, C) one-hot targets, all 0 for background
"""

import math

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from reg_d2.losses import generalized_focal_loss
from reg_d2.modeling.box_loss import BoxLoss, register_box_loss, without_background
from reg_d2.modeling.distributed import mean_over_workers, reduce_mean, sum_over_workers
from reg_d2.modeling.settings import check_range

from .classifiers import object_counts, one_hot


class OneVsAll(BoxLoss):
    """C outputs that start at a bias; the score of a class is the sigmoid of its logit."""

    @configurable
    def __init__(self, *, num_classes: int, bias: float):
        """
        Args:
            num_classes: C.
            bias: of every output at the start.
        """
        super().__init__(num_classes=num_classes)
        self.bias = bias

    @classmethod
    def from_config(cls, cfg):
        prior = cfg.MODEL.REG.BOX.PRIOR
        check_range("BOX.PRIOR", prior, "(0, 1)")
        return {**super().from_config(cfg), "bias": -math.log((1 - prior) / prior)}

    def classifier(self, linear: nn.Linear) -> nn.Module:
        linear = without_background(linear)
        nn.init.constant_(linear.bias, self.bias)
        return linear

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, C) in [0, 1]."""
        return logits.sigmoid()

    def scores(self, logits: Tensor) -> Tensor:
        """p_c; the background, which has no output, is what the likeliest class leaves."""
        p = self.probabilities(logits)
        return torch.cat([p, 1 - p.amax(dim=1, keepdim=True)], dim=1)


@register_box_loss("sigmoid_bce")
class SigmoidBCE(OneVsAll):
    """Binary cross-entropy: 1/N sum_ic -y log p - (1 - y) log(1 - p), p = sigmoid(z), p = PRIOR at the start.

    N counts all ROIs, as in Detectron2's ``USE_SIGMOID_CE`` and every ROI head with this loss.
    Source: Lin et al., Focal Loss for Dense Object Detection, 2017 (the prior); Zhou et al., CenterNet2, 2021.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        y = one_hot(targets, self.num_classes)
        return mean_over_workers(F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(dim=1))


@register_box_loss("sigmoid_focal")
class SigmoidFocal(OneVsAll):
    """RetinaNet's focal loss: 1/N_pos sum_ic -alpha_t (1 - p_t)^gamma log p_t.

    alpha_t is alpha for positives, 1 - alpha for negatives (1 for both where alpha is -1); N_pos is the running mean of
    the number of foreground ROIs a worker has (Detectron2's RetinaNet; here it starts at the first batch that has some,
    not at 100). Before, it is 1.
    Source: Lin et al., 2017: alpha 0.25, gamma 2, prior 0.01.
    """

    @configurable
    def __init__(self, *, num_classes: int, bias: float, alpha: float, gamma: float, momentum: float):
        """
        Args:
            num_classes, bias: as in :class:`OneVsAll`.
            alpha: in [0, 1], or -1.
            gamma: >= 0.
            momentum: of the running mean, in [0, 1).

        Raises:
            ValueError: alpha or gamma out of range.
        """
        super().__init__(num_classes=num_classes, bias=bias)
        if alpha != -1:
            check_range("PEERS.FOCAL.ALPHA", alpha, "[0, 1]", ", or -1 for no such weights")
        check_range("PEERS.FOCAL.GAMMA", gamma, "[0, inf)")
        self.alpha, self.gamma, self.momentum = alpha, gamma, momentum
        self.register_buffer("foreground_mean", torch.zeros(()))  # 0: nothing seen yet

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.FOCAL
        momentum = cfg.MODEL.REG.BOX.FOREGROUND_MOMENTUM
        return {**super().from_config(cfg), "alpha": node.ALPHA, "gamma": node.GAMMA, "momentum": momentum}

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        y = one_hot(targets, self.num_classes)
        # Not fvcore's: its gradient is NaN where p_t is 1 to the last bit and 0 < gamma < 1.
        positive, negative = (1.0, 1.0) if self.alpha == -1 else (self.alpha, 1 - self.alpha)
        total = generalized_focal_loss(
            logits,
            targets,
            class_weight=logits.new_full((self.num_classes,), positive),
            negative_weight=negative,
            gamma=self.gamma,
            reduction="sum",
        )
        count, seen = reduce_mean(y.sum()), self.foreground_mean > 0
        mean = self.momentum * self.foreground_mean + (1 - self.momentum) * count.clamp(min=1.0)
        mean = torch.where(seen, mean, count)
        if torch.is_grad_enabled():  # a validation loss leaves no trace
            self.foreground_mean.copy_(mean)
        return total / mean.clamp(min=1.0)


@register_box_loss("gumbel")
class Gumbel(OneVsAll):
    """GOL: binary cross-entropy of p = exp(-exp(-z)), the Gumbel distribution, with DropLoss for rare classes.

    l = 1/N sum_ic w_ic (-y log p - (1 - y) log(1 - p)), z clamped to [-4, 10]; w = 1 but for the negatives of a rare
    class, which foreground ROIs drop, and background ROIs drop with the chance 1 - r, with r the rare part of the
    batch's foreground, over all workers.
    The gradient is the exact one: of positives it grows with exp(-z), where the authors' code loses it below z = -3.3,
    since torch's binary cross-entropy holds p (1 - p) above 1e-12 there.
    Source: Alexandridis et al., Long-tailed Instance Segmentation using Gumbel Optimized Loss, 2022, and its code;
    Hsieh et al., DropLoss, 2021. Rare is by the share of the objects (theirs: of the images of LVIS).
    """

    @configurable
    def __init__(self, *, num_classes: int, bias: float, rare: Tensor):
        """
        Args:
            num_classes, bias: as in :class:`OneVsAll`.
            rare: (C,) bool: classes of which negatives are dropped.
        """
        super().__init__(num_classes=num_classes, bias=bias)
        self.register_buffer("rare", rare, persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node, counts = cfg.MODEL.REG.PEERS.GUMBEL, object_counts(cfg)
        check_range("PEERS.GUMBEL.DROP_SHARE", node.DROP_SHARE, "[0, 1]")
        check_range("PEERS.GUMBEL.BIAS", node.BIAS, "(-inf, inf)")
        return {**super().from_config(cfg), "bias": node.BIAS, "rare": counts / counts.sum() < node.DROP_SHARE}

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.exp(-torch.exp(-logits))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        y = one_hot(targets, self.num_classes)
        u = torch.exp(-logits.clamp(-4.0, 10.0))  # -log p
        losses = torch.where(y > 0, u, -torch.log(-torch.expm1(-u)))
        return mean_over_workers((losses * self._kept(y, targets)).sum(dim=1))

    def _kept(self, y: Tensor, targets: Tensor) -> Tensor:
        """w, (N, C) of 0 and 1."""
        if not self.rare.any():
            return torch.ones_like(y)
        foreground = targets < self.num_classes
        is_rare = torch.cat([self.rare, self.rare.new_zeros(1)])[targets]
        rare, objects = sum_over_workers(torch.stack([is_rare.sum(), foreground.sum()]).float())
        # Without any object the chance is 0: the authors' mean of nothing is NaN, and drops nothing.
        ratio = torch.where(objects > 0, rare / objects.clamp(min=1), torch.ones_like(rare))
        dropped = foreground[:, None] | (torch.rand_like(y) > ratio)
        return 1 - (dropped & self.rare).float() * (1 - y)
