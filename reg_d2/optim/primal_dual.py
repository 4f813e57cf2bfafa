"""E12: class weights that equalise the classes' mean losses, found by dual ascent.

Shape shorthand:
    C: object classes
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class PrimalDual(nn.Module):
    """Multipliers mu_c of the constraints h_c = 0, and what their ascent needs to remember (E12).

        Lbar_c <- m Lbar_c + (1 - m) (mean loss of class c's positives in this batch)
        h_c = Lbar_c - mean of Lbar over the classes seen so far
        mu_c <- max(mu_c + rate h_c, -a_c)

    The effective weight of class c is a_c + mu_c >= 0. As long as every batch holds every class and no weight is at 0,
    the h_c sum to 0 and so do the multipliers: weight then moves between classes, and none is added.

    Buffers, saved with the model: ``multipliers`` (C,), ``running_loss`` (C,), ``seen`` (C,) bool. Nothing here
    carries a gradient.
    """

    def __init__(self, class_weight: Tensor | None, *, rate: float, momentum: float, num_classes: int | None = None):
        """
        Args:
            class_weight: (C,) a_c >= 0, or None for 1, which needs ``num_classes``.
            rate: step of the ascent, >= 0; 0 leaves the weights at a_c.
            momentum: m in [0, 1), of the running means; the first value seen starts a mean.
            num_classes: C; only where ``class_weight`` is None.

        Raises:
            ValueError: neither ``class_weight`` nor ``num_classes``; weights that are negative or not finite; a rate or
                momentum out of range.
        """
        super().__init__()
        if class_weight is None:
            if num_classes is None:
                raise ValueError("neither class_weight nor num_classes is given: one has to say how many classes")
            class_weight = torch.ones(num_classes)
        class_weight = class_weight.detach().float()
        if class_weight.dim() != 1 or not bool((torch.isfinite(class_weight) & (class_weight >= 0)).all()):
            raise ValueError(f"class_weight {class_weight.tolist()}: expected (C,) finite numbers >= 0")
        if not rate >= 0:
            raise ValueError(f"rate of the dual ascent is {rate}: expected a number >= 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum of the mean class losses is {momentum}: expected a number in [0, 1)")
        self.rate, self.momentum = rate, momentum
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("multipliers", torch.zeros_like(class_weight))
        self.register_buffer("running_loss", torch.zeros_like(class_weight))
        self.register_buffer("seen", torch.zeros_like(class_weight, dtype=torch.bool))

    @torch.no_grad()
    def weights(self) -> Tensor:
        """(C,) float32 effective weights a_c + mu_c >= 0."""
        # The projection keeps this >= 0 already, except after loading multipliers of a run with other class weights.
        return (self.class_weight + self.multipliers).clamp(min=0)

    @torch.no_grad()
    def update(self, loss_sum: Tensor, count: Tensor, reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        """One step of the running means and of the dual ascent.

        A class without a positive in the whole batch, all workers' shares together, keeps its mean and multiplier.

        Args:
            loss_sum: (C,) sum of the unweighted losses of each class's positives, on this worker.
            count: (C,) number of these positives.
            reduce: averages a tensor over the workers; called once whatever the batch holds. None: a single worker.

        Raises:
            ValueError: another shape than (C,).
        """
        expected = self.multipliers.shape
        if loss_sum.shape != expected or count.shape != expected:
            raise ValueError(
                f"loss_sum {tuple(loss_sum.shape)} and count {tuple(count.shape)}: expected {tuple(expected)} for both"
            )
        # One tensor, so that the workers meet once; averages serve as sums do, since only their ratio is used.
        totals = torch.stack([loss_sum.detach().float(), count.detach().float()])
        loss_sum, count = reduce(totals) if reduce is not None else totals
        present = count > 0
        mean = loss_sum / torch.where(present, count, 1.0)
        mean = torch.where(self.seen, self.momentum * self.running_loss + (1 - self.momentum) * mean, mean)
        self.running_loss.copy_(torch.where(present, mean, self.running_loss))
        self.seen.logical_or_(present)
        ascended = self.multipliers + self.rate * self.violation()
        self.multipliers.copy_(torch.where(present, torch.maximum(ascended, -self.class_weight), self.multipliers))

    @torch.no_grad()
    def violation(self) -> Tensor:
        """(C,) h_c = Lbar_c - mean of Lbar over the classes seen so far (E12); 0 for a class not seen yet."""
        average = (self.running_loss * self.seen).sum() / self.seen.sum().clamp(min=1)
        return torch.where(self.seen, self.running_loss - average, 0.0)
