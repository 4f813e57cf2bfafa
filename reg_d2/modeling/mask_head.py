"""REG on the mask head: one channel per class that has masks, trained on objects that have one (E2, E3, E4).

Shape shorthand:
    R: ROIs of a batch      K: channels (classes with masks, or 1)      M: side of the predicted mask, in pixels
"""

import torch
from detectron2.config import configurable
from detectron2.layers import cat
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..losses import LossSettings, divide, mask_distance, mask_terms
from .distributed import reduce_mean
from .settings import head_class_weights, loss_settings, mask_channels


@ROI_MASK_HEAD_REGISTRY.register()
class REGMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's convolutional mask head with REG or cross-entropy, for classes of which some have no masks."""

    @configurable
    def __init__(
        self, input_shape, *, settings: LossSettings, channels: Tensor, class_weight: Tensor | None = None, **kwargs
    ):
        """
        Args:
            input_shape, kwargs: as in Detectron2's MaskRCNNConvUpsampleHead; ``num_classes`` is the number K of
                channels.
            settings: of the loss.
            channels: (C,) channel of each class, -1 for one that has boxes only.
            class_weight: one weight a class with masks, in the order of the classes, or None for 1.
        """
        super().__init__(input_shape, **kwargs)
        # Buffers, not modules: the head is a Sequential, and runs whatever module is stored on it.
        self.settings = settings
        self.register_buffer("channels", channels, persistent=False)
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("weight_index", (channels >= 0).cumsum(0) - 1, persistent=False)

    @classmethod
    def from_config(cls, cfg, input_shape):
        channels = mask_channels(cfg)
        return {
            **super().from_config(cfg, input_shape),
            "num_classes": max(int(channels.max()) + 1, 1),
            "settings": loss_settings(cfg.MODEL.REG.MASK, "MASK"),
            "channels": channels,
            "class_weight": head_class_weights(cfg, "MASK"),
        }

    def forward(self, x: Tensor, instances: list[Instances]):
        """As Detectron2's mask heads.

        Training: ``instances`` are foreground proposals whose objects have a mask (REGROIHeads sees to it); returns
        ``{"loss_mask": scalar}``. Inference: adds ``pred_masks`` (R_i, 1, M, M) in [0, 1] and ``has_mask`` (R_i,)
        bool to each of ``instances``; a box-only class gets an empty mask and ``has_mask`` False.
        """
        logits = self.layers(x)
        if self.training:
            return {"loss_mask": self._loss(logits, instances) * self.loss_weight}
        self._predict(logits, instances)
        return instances

    def _loss(self, logits: Tensor, instances: list[Instances]) -> Tensor:
        instances = [x for x in instances if len(x)]
        classes = cat([x.gt_classes for x in instances]) if instances else self.channels.new_zeros(0)
        masks = [x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, logits.shape[-1]) for x in instances]
        masks = cat(masks).to(logits.device) > 0.5 if masks else logits.new_zeros(0, *logits.shape[2:]) > 0.5
        own = logits[torch.arange(len(classes), device=logits.device), self.channels[classes]]
        _log_accuracy(own.detach(), masks)
        distance = None if self.settings.refinement is None else mask_distance(masks)
        terms = mask_terms(own, masks, self.weight_index[classes], self.settings, self.class_weight, distance)
        loss = divide(
            terms,
            by=self.settings.divisor,
            renormalize=self.settings.refinement is not None and self.settings.refinement.renormalize,
            average=reduce_mean,
        )
        return loss + logits.sum() * 0.0  # attached to every channel, whatever the batch holds

    def _predict(self, logits: Tensor, instances: list[Instances]) -> None:
        sizes = [len(x) for x in instances]
        channels = self.channels[cat([x.pred_classes for x in instances])]
        rows = torch.arange(len(channels), device=logits.device)
        probability = logits[rows, channels.clamp(min=0)].sigmoid() * (channels >= 0)[:, None, None]
        for x, masks, has_mask in zip(instances, probability.split(sizes), (channels >= 0).split(sizes), strict=True):
            x.pred_masks = masks[:, None]
            x.has_mask = has_mask


def _log_accuracy(logits: Tensor, masks: Tensor) -> None:
    if masks.numel():
        accuracy = ((logits > 0) == masks).float().mean()
        get_event_storage().put_scalar("mask_rcnn/accuracy", accuracy.item())
