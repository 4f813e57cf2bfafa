"""Peers that shift the logits of a softmax in training: logit adjustment and LDAM.

Shape shorthand:
    N: ROIs of a batch      C: object classes      z: (N, C + 1) logits, last column background
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from reg_d2.losses import class_weights
from reg_d2.modeling.box_loss import BoxLoss, register_box_loss
from reg_d2.modeling.distributed import mean_over_workers, reduce_mean
from reg_d2.modeling.settings import check_range

from .classifiers import NormedLinear, object_counts


@register_box_loss("logit_adjustment")
class LogitAdjustment(BoxLoss):
    """Cross-entropy of z + tau log(C pi), pi_c the class's share of the objects; plain softmax of z at test.

    Post hoc the other way round: plain cross-entropy in training, softmax of z - tau log(C pi) at test.
    The background is not shifted; the factor C makes equal shares shift nothing, so that the classes' level against
    the background stays. Source: Menon et al., Long-tail Learning via Logit Adjustment, 2021: tau 1.
    """

    @configurable
    def __init__(self, *, num_classes: int, counts: Tensor, tau: float, post_hoc: bool):
        """
        Args:
            num_classes: C.
            counts: (C,) > 0.
            tau: any number; 0 adjusts nothing.
            post_hoc: adjust at test instead of in training.

        Raises:
            ValueError: tau is no number.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.LOGIT_ADJUSTMENT.TAU", tau, "(-inf, inf)")
        self.post_hoc = post_hoc
        shift = tau * torch.log(num_classes * counts / counts.sum())
        self.register_buffer("shift", torch.cat([shift, shift.new_zeros(1)]), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.LOGIT_ADJUSTMENT
        return {**super().from_config(cfg), "counts": object_counts(cfg), "tau": node.TAU, "post_hoc": node.POST_HOC}

    @classmethod
    def trained_as(cls, cfg) -> str:
        return "cross_entropy" if cfg.MODEL.REG.PEERS.LOGIT_ADJUSTMENT.POST_HOC else super().trained_as(cfg)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits if self.post_hoc else logits + self.shift, targets)

    def scores(self, logits: Tensor) -> Tensor:
        return super().scores(logits - self.shift if self.post_hoc else logits)


@register_box_loss("ldam")
class LDAM(BoxLoss):
    """Label-distribution-aware margins: cross-entropy of s (cos - Delta_y at the true class y).

    Delta_c = max_margin (n_c / min n)^(-1/4) for objects, 0 for the background; s cos is what the classifier gives.
    DRW: from ``reweight_from`` on, a row has the weight (1 - beta) / (1 - beta^n_y), of mean 1 over the classes (1 for
    the background), and the loss is divided by the sum of the rows' weights.
    Source: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019, and its code:
    max_margin 0.5, s 30, beta 0.9999, DRW after 160 of 200 epochs.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        counts: Tensor,
        max_margin: float,
        scale: float,
        reweight_from: int | None = None,
        beta: float = 0.9999,
    ):
        """
        Args:
            num_classes: C.
            counts: (C,) > 0.
            max_margin: of the rarest class, in cosines, > 0.
            scale: s > 0.
            reweight_from: iteration at which DRW starts; None for never.
            beta: of DRW, in [0, 1).

        Raises:
            ValueError: a margin, scale or beta out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.LDAM.MAX_MARGIN", max_margin, "(0, inf)")
        check_range("PEERS.LDAM.SCALE", scale, "(0, inf)")
        check_range("PEERS.LDAM.REWEIGHT_BETA", beta, "[0, 1)")
        self.scale, self.reweight_from = scale, reweight_from
        margin = max_margin * (counts / counts.min()) ** -0.25
        weight = class_weights(counts, "effective_number", normalize=True, beta=beta)
        self.register_buffer("margin", torch.cat([margin, margin.new_zeros(1)]), persistent=False)
        self.register_buffer("weight", torch.cat([weight, weight.new_ones(1)]), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.LDAM
        check_range("PEERS.LDAM.REWEIGHT_FROM", node.REWEIGHT_FROM, "[0, 1]")
        return {
            **super().from_config(cfg),
            "counts": object_counts(cfg),
            "max_margin": node.MAX_MARGIN,
            "scale": node.SCALE,
            "reweight_from": round(node.REWEIGHT_FROM * cfg.SOLVER.MAX_ITER) if node.REWEIGHT_FROM < 1 else None,
            "beta": node.REWEIGHT_BETA,
        }

    def classifier(self, linear: nn.Linear) -> nn.Module:
        return NormedLinear(linear, self.scale, bias=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        shift = F.one_hot(targets, self.num_classes + 1) * (self.scale * self.margin)
        losses = F.cross_entropy(logits - shift, targets, reduction="none")
        if self.reweight_from is None or get_event_storage().iter < self.reweight_from:
            return mean_over_workers(losses)
        weight = self.weight[targets]
        return (losses * weight).sum() / reduce_mean(weight.sum()).clamp(min=1e-6)
