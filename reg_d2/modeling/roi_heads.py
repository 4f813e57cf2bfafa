"""ROI heads of REG: they give the proposals their distances, and the mask head only objects that have masks."""

import torch
from detectron2.config import configurable
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import Instances

from ..losses import box_class_distance
from .box_predictor import REGFastRCNNOutputLayers


@ROI_HEADS_REGISTRY.register()
class REGROIHeads(StandardROIHeads):
    """Detectron2's standard ROI heads with REG's box predictor.

    Ground truth may carry ``gt_has_mask``, (M,) bool: False for an object that was annotated with a box and no
    mask. Without the field every object has a mask.
    """

    @configurable
    def __init__(self, *, distance_metric: str | None = None, **kwargs):
        """
        Args:
            distance_metric: of E4, ``center`` or ``edge``; None where the box loss needs no distances.
            kwargs: as in Detectron2's StandardROIHeads.
        """
        super().__init__(**kwargs)
        self.distance_metric = distance_metric

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        refinement = ret["box_predictor"].settings.refinement
        ret["distance_metric"] = None if refinement is None else refinement.metric
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = REGFastRCNNOutputLayers(cfg, ret["box_head"].output_shape)
        return ret

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """As Detectron2's, and ``class_distance`` (R_i, C) of E4 on every sampled proposal where the loss needs it."""
        sampled = super().label_and_sample_proposals(proposals, targets)
        if self.distance_metric is not None:
            for x, target in zip(sampled, targets, strict=True):
                x.class_distance = box_class_distance(
                    x.proposal_boxes.tensor,
                    target.gt_boxes.tensor,
                    target.gt_classes,
                    self.num_classes,
                    x.image_size,
                    metric=self.distance_metric,
                )
        return sampled

    def _forward_mask(self, features, instances: list[Instances]):
        if self.mask_on and self.training:
            instances = [x[x.gt_has_mask] if x.has("gt_has_mask") else x for x in instances]
        return super()._forward_mask(features, instances)
