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
from torch import Tensor, nn

from ..losses import (
    LossSettings,
    clamp_log_variance,
    divide,
    marginal_probability,
    mask_class_losses,
    mask_distance,
    mask_terms,
    probability_std,
)
from ..optim import PrimalDual
from .distributed import reduce_mean
from .loss_state import LossState, say_fresh_variance
from .settings import class_counts, head_class_weights, loss_settings, mask_channels, primal_dual, start_iteration


@ROI_MASK_HEAD_REGISTRY.register()
class REGMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's convolutional mask head with REG or cross-entropy, for classes of which some have no masks.

    With uncertainty (E6) a second 1 x 1 convolution gives the log variance of each logit.
    """

    @configurable
    def __init__(
        self,
        input_shape,
        *,
        settings: LossSettings,
        channels: Tensor,
        class_weight: Tensor | None = None,
        weight_from: int = 0,
        refinement_from: int = 0,
        balance: PrimalDual | None = None,
        class_names: list[str] | None = None,
        initial_log_variance: float = -4.0,
        output_std: bool = False,
        **kwargs,
    ):
        """
        Args:
            input_shape, kwargs: as in Detectron2's MaskRCNNConvUpsampleHead; ``num_classes`` is the number K of
                channels.
            settings: of the loss.
            channels: (C,) channel of each class, -1 for one that has boxes only.
            class_weight: one weight a class with masks, in the order of the classes, or None for 1.
            weight_from: the iteration from which they act.
            refinement_from: the iteration from which g acts (E4).
            balance: multipliers of the classes with masks (E12), or None.
            class_names: of the classes with masks, for the log.
            initial_log_variance: log sigma^2 of every logit at the start (E7).
            output_std: give ``pred_mask_std`` at inference; only with uncertainty.
        """
        super().__init__(input_shape, **kwargs)
        # The head is a Sequential: what is stored on it from here on is no layer of it.
        self._layer_names = [name for name, _ in self.named_children()]
        self.settings, self.output_std = settings, output_std and settings.uncertainty is not None
        self.register_buffer("channels", channels, persistent=False)
        self.register_buffer("class_index", (channels >= 0).cumsum(0) - 1, persistent=False)
        self.log_variance = None
        if settings.uncertainty is not None:
            self.log_variance = _constant_conv(
                self.predictor.in_channels, self.predictor.out_channels, initial_log_variance
            )
            self.register_load_state_dict_post_hook(say_fresh_variance)
            nn.init.constant_(self.predictor.bias, settings.even)
        self.loss_state = LossState(
            "mask",
            settings,
            int((channels >= 0).sum()),
            class_names=class_names,
            class_weight=class_weight,
            weight_from=weight_from,
            refinement_from=refinement_from,
            balance=balance,
            # The prior of a pixel is 1/2: how often its class occurs says nothing of the pixels inside the object.
            prior_mean=0.0,
        )

    @classmethod
    def from_config(cls, cfg, input_shape):
        channels = mask_channels(cfg)
        class_weight = head_class_weights(cfg, "MASK")
        node = cfg.MODEL.REG.MASK
        return {
            **super().from_config(cfg, input_shape),
            "num_classes": max(int(channels.max()) + 1, 1),
            "settings": loss_settings(node, "MASK"),
            "channels": channels,
            "class_weight": class_weight,
            "weight_from": start_iteration(cfg, "MASK", "CLASS_WEIGHT"),
            "refinement_from": start_iteration(cfg, "MASK", "REFINEMENT"),
            "balance": primal_dual(cfg, "MASK", class_weight, int((channels >= 0).sum())),
            "class_names": class_counts(cfg, "MASK")[0],
            "initial_log_variance": node.UNCERTAINTY.INITIAL_LOG_VARIANCE,
            "output_std": node.UNCERTAINTY.OUTPUT_STD,
        }

    def layers(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(R, K, 2M, 2M) logits and, with uncertainty, their log variances, of ROI features (R, ., M, M)."""
        for name in self._layer_names[:-1]:
            x = getattr(self, name)(x)
        log_variance = None if self.log_variance is None else clamp_log_variance(self.log_variance(x))
        return self.predictor(x), log_variance

    def forward(self, x: Tensor, instances: list[Instances]):
        """As Detectron2's mask heads.

        Training: ``instances`` are foreground proposals whose objects have a mask (REGROIHeads sees to it); returns
        ``loss_mask`` and, with the free energy (E8), ``loss_mask_kl``, scalars. Inference: adds ``pred_masks``
        (R_i, 1, M, M) in [0, 1] and ``has_mask`` (R_i,) bool to each of ``instances``; a box-only class gets an empty
        mask and ``has_mask`` False; on request ``pred_mask_std`` (R_i, 1, M, M) in [0, 1].
        """
        logits, log_variance = self.layers(x)
        if self.training:
            return {name: loss * self.loss_weight for name, loss in self._losses(logits, log_variance, instances)}
        self._predict(logits, log_variance, instances)
        return instances

    def _losses(self, logits: Tensor, log_variance: Tensor | None, instances: list[Instances]):
        """Pairs of name and loss."""
        state, settings = self.loss_state, self.loss_state.settings_now()
        refinement = settings.refinement
        instances = [x for x in instances if len(x)]
        classes = cat([x.gt_classes for x in instances]) if instances else self.channels.new_zeros(0)
        masks = [x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, logits.shape[-1]) for x in instances]
        masks = cat(masks).to(logits.device) > 0.5 if masks else logits.new_zeros(0, *logits.shape[2:]) > 0.5
        own = (torch.arange(len(classes), device=logits.device), self.channels[classes])
        mean, log_variance_of_own = logits[own], None if log_variance is None else log_variance[own]
        classes = self.class_index[classes]
        _log_accuracy(mean.detach() > self.settings.even, masks)
        distance = None if refinement is None else mask_distance(masks)
        terms = mask_terms(
            mean, masks, classes, settings, state.weights(), distance, log_variance_of_own, state.learned()
        )
        if state.balance is not None:
            state.update_balance(
                *mask_class_losses(mean, masks, classes, len(state.class_names), settings, log_variance_of_own)
            )
        state.log(None if refinement is None else terms.refinement / terms.count.clamp(min=1), log_variance_of_own)
        loss = divide(
            terms,
            by=settings.divisor,
            renormalize=refinement is not None and refinement.renormalize,
            average=reduce_mean,
        )
        # Attached to every channel, whatever the batch holds.
        attached = logits.sum() * 0.0 if log_variance is None else (logits.sum() + log_variance.sum()) * 0.0
        yield "loss_mask", loss + attached
        if self.settings.uncertainty is not None and self.settings.uncertainty.free_energy is not None:
            yield "loss_mask_kl", state.kl(mean, log_variance_of_own)

    def _predict(self, logits: Tensor, log_variance: Tensor | None, instances: list[Instances]) -> None:
        sizes = [len(x) for x in instances]
        channels = self.channels[cat([x.pred_classes for x in instances])]
        rows = torch.arange(len(channels), device=logits.device)
        own = (rows, channels.clamp(min=0))
        has_mask = channels >= 0
        if log_variance is None:
            probability = logits[own].sigmoid()
        else:
            u = self.settings.uncertainty
            generator = torch.Generator(logits.device).manual_seed(0) if u.method == "monte_carlo" else None
            options = {"method": u.method, "distribution": u.distribution, "num_samples": u.num_samples}
            probability = marginal_probability(logits[own], log_variance[own], **options, generator=generator)
        fields = {"pred_masks": probability * has_mask[:, None, None], "has_mask": has_mask}
        if self.output_std:
            std = probability_std(logits[own], log_variance[own], u.distribution)
            fields["pred_mask_std"] = std * has_mask[:, None, None]
        for name, values in fields.items():
            for x, part in zip(instances, values.split(sizes), strict=True):
                x.set(name, part if part.dim() == 1 else part[:, None])


def _constant_conv(in_channels: int, out_channels: int, value: float) -> nn.Conv2d:
    """A 1 x 1 convolution that starts as a constant, and draws no random number on its way: all losses start alike."""
    layer = nn.utils.skip_init(nn.Conv2d, in_channels, out_channels, kernel_size=1)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer


def _log_accuracy(predicted: Tensor, masks: Tensor) -> None:
    if masks.numel():
        accuracy = (predicted == masks).float().mean()
        get_event_storage().put_scalar("mask_rcnn/accuracy", accuracy.item())
