"""REGRCNN: Generalized R-CNN with the joint objective of detection and segmentation (E5)."""

import math

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .distributed import reduce_mean

TASK_OF_LOSS = {
    "loss_rpn_cls": "detection",
    "loss_rpn_loc": "detection",
    "loss_cls": "detection",
    "loss_cls_kl": "detection",
    "loss_box_reg": "detection",
    "loss_mask": "segmentation",
    "loss_mask_kl": "segmentation",
}


class JointObjective(nn.Module):
    """L = scale (lambda L_det + (1 - lambda) L_seg) (E5), with lambda fixed or learned.

    Learned (Kendall et al., Multi-Task Learning Using Uncertainty, 2018): with s_t = log sigma_t^2 of each task t,
        L = scale / 2 (sum_t exp(-s_t) L_t + s_t / 2),
    and lambda = exp(-s_det) / (exp(-s_det) + exp(-s_seg)) is what the log shows. A task without any loss in a batch (of
    all workers) leaves its s_t alone.
    """

    def __init__(self, value: float = 0.5, learned: bool = False, scale: float = 2.0):
        """
        Args:
            value: lambda in [0, 1].
            learned: learn it instead.
            scale: > 0; 2 makes lambda = 0.5 the plain sum.
        """
        super().__init__()
        if not 0 <= value <= 1:
            raise ValueError(f"MODEL.REG.LAMBDA.VALUE is {value}: expected a number in [0, 1]")
        if not 0 < scale < math.inf:
            raise ValueError(f"MODEL.REG.LAMBDA.SCALE is {scale}: expected a number > 0")
        self.value, self.scale = value, scale
        self.log_variance = nn.Parameter(torch.zeros(2)) if learned else None

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weight each loss by its task.

        Args:
            losses: name -> scalar; every name must be in ``TASK_OF_LOSS``.

        Returns:
            the same names -> what is minimised; with a learned lambda also ``loss_task_uncertainty``.

        Raises:
            KeyError: a loss of an unknown name: it would be trained with no task.
        """
        unknown = sorted(set(losses) - set(TASK_OF_LOSS))
        if unknown:
            raise KeyError(
                f"no task is known for {', '.join(unknown)}: add it to TASK_OF_LOSS (known: {', '.join(TASK_OF_LOSS)})"
            )
        detection, segmentation = self._task_weights()
        weight = {"detection": detection, "segmentation": segmentation}
        joint = {name: loss * weight[TASK_OF_LOSS[name]] for name, loss in losses.items()}
        if self.log_variance is not None:
            present = torch.stack([self._present(losses, task) for task in weight])
            joint["loss_task_uncertainty"] = self.scale / 4 * (self.log_variance * present).sum()
        return joint

    def lambda_value(self) -> float:
        """The current lambda, in [0, 1]."""
        if self.log_variance is None:
            return self.value
        return torch.softmax(-self.log_variance.detach(), dim=0)[0].item()

    def _task_weights(self):
        if self.log_variance is None:
            return self.scale * self.value, self.scale * (1 - self.value)
        return (self.scale / 2 * torch.exp(-self.log_variance)).unbind()

    def _present(self, losses, task):
        """1 where the task has any loss on any worker, else 0; a scalar tensor.

        With this worker's loss alone, s_t would fall where its batch has no masks and others have: their mask loss is
        divided by what all workers hold.
        """
        total = sum(loss.detach() for name, loss in losses.items() if TASK_OF_LOSS[name] == task)
        total = torch.as_tensor(total, device=self.log_variance.device, dtype=torch.float32)
        return reduce_mean(total).ne(0).float()


@META_ARCH_REGISTRY.register()
class REGRCNN(GeneralizedRCNN):
    """Detectron2's GeneralizedRCNN under the joint objective (E5); lambda is applied here and nowhere else."""

    @configurable
    def __init__(self, *, objective: JointObjective, **kwargs):
        super().__init__(**kwargs)
        self.objective = objective

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.LAMBDA
        return {
            **super().from_config(cfg),
            "objective": JointObjective(value=node.VALUE, learned=node.LEARNED, scale=node.SCALE),
        }

    def forward(self, batched_inputs):
        """Losses (training) or detections (inference), as in Detectron2's GeneralizedRCNN."""
        output = super().forward(batched_inputs)
        if not self.training:
            return output
        if self.objective.log_variance is not None:
            get_event_storage().put_scalar("reg/lambda", self.objective.lambda_value())
        return self.objective(output)
