"""REG on the box head: Detectron2's Fast R-CNN output layers with the classification loss of E3.

Shape shorthand:
    N: ROIs of a batch      C: object classes      A: outputs of the classifier, C (sigmoid) or C + 1 (softmax)
"""

import math

import torch
from detectron2.config import configurable
from detectron2.layers import cat
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..losses import LossSettings, box_terms, divide
from .distributed import reduce_mean
from .settings import head_class_weights, loss_settings


class REGFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Fast R-CNN output layers whose classifier is trained with REG (E1, E3, E4) or with cross-entropy."""

    @configurable
    def __init__(
        self,
        input_shape,
        *,
        settings: LossSettings,
        class_weight: Tensor | None = None,
        prior: float = 0.01,
        foreground_momentum: float = 0.9,
        **kwargs,
    ):
        """
        Args:
            input_shape, kwargs: as in Detectron2's FastRCNNOutputLayers.
            settings: of the loss.
            class_weight: (C,) or None for 1.
            prior: probability of every class at the start, in (0, 1); ``sigmoid`` only.
            foreground_momentum: of the running number of foreground ROIs, in [0, 1); ``sigmoid`` only.
        """
        super().__init__(input_shape, **kwargs)
        if not 0 < prior < 1:
            raise ValueError(f"MODEL.REG.BOX.PRIOR is {prior}: expected a probability in (0, 1)")
        self.settings = settings
        self.foreground_momentum = foreground_momentum
        self.register_buffer("class_weight", class_weight, persistent=False)
        if settings.activation == "sigmoid":
            self.cls_score = _without_background(self.cls_score)
            nn.init.constant_(self.cls_score.bias, -math.log((1 - prior) / prior))
            # 0 means: not seen yet. Saved with the model, so that a resumed run goes on as if never stopped.
            self.register_buffer("foreground_mean", torch.zeros(()))

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {
            **super().from_config(cfg, input_shape),
            "settings": loss_settings(cfg.MODEL.REG.BOX, "BOX"),
            "class_weight": head_class_weights(cfg, "BOX"),
            "prior": cfg.MODEL.REG.BOX.PRIOR,
            "foreground_momentum": cfg.MODEL.REG.BOX.FOREGROUND_MOMENTUM,
        }

    def losses(self, predictions, proposals):
        """Detectron2's losses with ``loss_cls`` replaced.

        Args:
            predictions: (N, A) logits and box deltas.
            proposals: sampled proposals with ``gt_classes`` and, when refinement is on, ``class_distance`` (., C).

        Returns:
            ``loss_cls`` and ``loss_box_reg``, each times its entry in ``loss_weight``.
        """
        logits, deltas = predictions
        losses = super().losses((self._with_background(logits), deltas), proposals)
        losses["loss_cls"] = self._classification_loss(logits, proposals) * self.loss_weight.get("loss_cls", 1.0)
        return losses

    def predict_probs(self, predictions, proposals):
        """Scores of each image, (R_i, C + 1) in [0, 1]; with ``sigmoid`` the background column is 0."""
        if self.settings.activation == "softmax":
            return super().predict_probs(predictions, proposals)
        probs = predictions[0].sigmoid()
        probs = torch.cat([probs, probs.new_zeros(len(probs), 1)], dim=1)
        return probs.split([len(p) for p in proposals], dim=0)

    def _classification_loss(self, logits: Tensor, proposals) -> Tensor:
        targets = cat([p.gt_classes for p in proposals], dim=0)
        distance = None
        if self.settings.refinement is not None:
            distance = cat([p.class_distance for p in proposals], dim=0)
        terms = box_terms(logits, targets, self.settings, self.class_weight, distance)
        if self.settings.refinement is not None:
            get_event_storage().put_scalar("reg/box_g_mean", (terms.refinement / terms.count.clamp(min=1)).item())
        sigmoid = self.settings.activation == "sigmoid"
        return divide(
            terms,
            by="foreground" if sigmoid else "weights",
            renormalize=self.settings.refinement is not None and self.settings.refinement.renormalize,
            average=reduce_mean,
            smooth=self._smooth_foreground if sigmoid else None,
        )

    @torch.no_grad()
    def _smooth_foreground(self, count: Tensor) -> Tensor:
        """Running mean of the number of foreground ROIs a worker has, started at the first one seen."""
        m = self.foreground_momentum
        smoothed = torch.where(self.foreground_mean > 0, m * self.foreground_mean + (1 - m) * count, count)
        self.foreground_mean.copy_(smoothed)
        return smoothed

    def _with_background(self, logits: Tensor) -> Tensor:
        """(N, C + 1) for Detectron2's accuracy statistics: with ``sigmoid``, background wins where every p < 1/2."""
        if self.settings.activation == "softmax":
            return logits
        return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)


def _without_background(layer: nn.Linear) -> nn.Linear:
    """The classifier less its background row: same random draws for every loss, and no parameter that is never used."""
    smaller = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features - 1)
    with torch.no_grad():
        smaller.weight.copy_(layer.weight[:-1])
        smaller.bias.copy_(layer.bias[:-1])
    return smaller
