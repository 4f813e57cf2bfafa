"""What a head's loss keeps from step to step, and what it reports: the same for the box head and the mask head.

Shape shorthand:
    C: classes that the head knows (boxes: all, masks: those with masks)      A: outputs of the head
"""

import logging
from dataclasses import replace

import torch
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..losses import LearnedRefinement, LossSettings, gaussian_kl
from ..optim import PrimalDual
from .distributed import mean_over_workers, reduce_mean

logger = logging.getLogger(__name__)

LOG_PERIOD = 20  # steps; a value on a GPU is read no more often, since that waits for the device


class LossState(nn.Module):
    """Class weights or multipliers (E10, E12), learned beta and delta (E14), the KL term (E8) of one head."""

    def __init__(
        self,
        name: str,
        settings: LossSettings,
        num_classes: int,
        *,
        class_names: list[str] | None = None,
        class_weight: Tensor | None = None,
        weight_from: int = 0,
        refinement_from: int = 0,
        balance: PrimalDual | None = None,
        prior_mean: Tensor | float = 0.0,
    ):
        """
        Args:
            name: ``box`` or ``mask``, for the log.
            settings: of the loss.
            num_classes: C.
            class_names: C names for the log; None: their indices.
            class_weight: (C,) or None for 1.
            weight_from: the iteration from which they act.
            refinement_from: the iteration from which g acts.
            balance: multipliers that stand in for the class weights.
            prior_mean: (A,) logits, or one for all: the means of the prior of E8.
        """
        super().__init__()
        self.name, self.settings, self.balance = name, settings, balance
        self.weight_from, self.refinement_from = weight_from, refinement_from
        self.class_names = class_names or [str(c) for c in range(num_classes)]
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("prior_mean", torch.as_tensor(prior_mean, dtype=torch.float32), persistent=False)
        if settings.refinement is not None and settings.refinement.learned:
            self.beta = nn.Parameter(torch.full((num_classes,), settings.refinement.beta))
            self.delta = nn.Parameter(torch.full((num_classes,), settings.refinement.delta))
        else:
            self.beta = self.delta = None

    def weights(self) -> Tensor | None:
        """(C,) the weight of each class in this step, or None for 1."""
        if self.balance is not None:
            return self.balance.weights()
        return None if _before(self.weight_from) else self.class_weight

    def settings_now(self) -> LossSettings:
        """The settings of this step: without the refinement until it starts."""
        return replace(self.settings, refinement=None) if _before(self.refinement_from) else self.settings

    def learned(self) -> LearnedRefinement | None:
        return None if self.beta is None else LearnedRefinement(self.beta, self.delta)

    def update_balance(self, loss_sum: Tensor, count: Tensor) -> None:
        """Dual ascent after the loss of a step, from its (C,) sums of losses and numbers of positives (E12).

        A pass without gradients is no step: a validation loss moves nothing.
        """
        if torch.is_grad_enabled():
            self.balance.update(loss_sum, count, reduce=reduce_mean)

    def kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """The weighted KL term of E8, a scalar: the mean over all logits of all workers; attached where none are, too.

        Args:
            mean, log_variance: (., A) or, with one prior mean for all, any shape.
        """
        energy = self.settings.uncertainty.free_energy
        values = gaussian_kl(mean, log_variance, self.prior_mean, energy.prior_std)
        return energy.kl_weight(get_event_storage().iter) * mean_over_workers(values)

    @torch.no_grad()
    def log(self, g_mean: Tensor | None = None, log_variance: Tensor | None = None) -> None:
        """Write the mean of g and of sigma and, where they change, multipliers, class losses, beta and delta."""
        storage = get_event_storage()
        if (storage.iter + 1) % LOG_PERIOD:
            return
        values = {}
        if g_mean is not None:
            values["g_mean"] = g_mean.reshape(1)
        if log_variance is not None and log_variance.numel():
            values["sigma"] = (log_variance / 2).exp().mean().reshape(1)
        if self.balance is not None:
            values["multiplier"] = self.balance.multipliers
            values["class_loss"] = self.balance.running_loss
        if self.beta is not None:
            values["beta"], values["delta"] = self.beta, self.delta
        for key, tensor in values.items():
            numbers = tensor.tolist()
            names = [""] if key in ("g_mean", "sigma") else [f"/{c}" for c in self.class_names]
            storage.put_scalars(
                smoothing_hint=False,
                **{f"reg/{self.name}_{key}{name}": x for name, x in zip(names, numbers, strict=True)},
            )


def _before(iteration: int) -> bool:
    return iteration > 0 and get_event_storage().iter < iteration


def say_fresh_variance(module: nn.Module, incompatible) -> None:
    """Load hook: a checkpoint with the head, and without its log variances, is one from before they were on."""
    missing = [key for key in incompatible.missing_keys if "log_variance" in key]
    if missing and not any(key.endswith(("cls_score.weight", "predictor.weight")) for key in incompatible.missing_keys):
        logger.warning(
            f"the checkpoint has no variance head ({', '.join(missing)}): it was trained without UNCERTAINTY. The "
            "variances start fresh; everything else is loaded"
        )
