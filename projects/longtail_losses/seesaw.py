"""Seesaw loss.

Shape shorthand:
    N: ROIs of a batch      P: of these, foreground      C: object classes
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from reg_d2.modeling.box_loss import BoxLoss, register_box_loss
from reg_d2.modeling.distributed import mean_over_workers, sum_over_workers
from reg_d2.modeling.settings import check_range

from .classifiers import normed, with_objectness


@register_box_loss("seesaw")
class Seesaw(BoxLoss):
    """Softmax cross-entropy whose negatives are weighed by class counts and scores; objectness apart.

    C + 2 outputs: C classes, object, background. For a foreground ROI of class i with scores s = softmax(z),
        l = -log softmax(z + log S_i)_i,  S_ij = M_ij K_ij,
        M_ij = (n_j / n_i)^p where n_j < n_i else 1 (mitigation),
        K_ij = (s_j / max(s_i, eps))^q where that ratio is > 1 else 1 (compensation),
    n_c being the ROIs of class c seen so far, this batch's too (>= 1); s carries no gradient. Every ROI adds the
    cross-entropy of object against background. Both sums are divided by N. Score: softmax over classes x p(object).
    Source: Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, 2021, and mmdetection: p 0.8, q 2,
    eps 0.01, a normed linear classifier with T = 20. (There each worker counts for itself; here all together.)
    """

    @configurable
    def __init__(self, *, num_classes: int, p: float, q: float, eps: float, temperature: float):
        """
        Args:
            num_classes: C.
            p, q: exponents >= 0; 0 turns the factor off.
            eps: > 0.
            temperature: of the classifier, see :func:`normed`.

        Raises:
            ValueError: an exponent or eps out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.SEESAW.P", p, "[0, inf)")
        check_range("PEERS.SEESAW.Q", q, "[0, inf)")
        check_range("PEERS.SEESAW.EPS", eps, "(0, inf)")
        self.p, self.q, self.eps, self.temperature = p, q, eps, temperature
        # Whole numbers: float32 stops counting at 2^24.
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.int64))

    @classmethod
    def from_config(cls, cfg):
        peers = cfg.MODEL.REG.PEERS
        own = {"p": peers.SEESAW.P, "q": peers.SEESAW.Q, "eps": peers.SEESAW.EPS}
        return {**super().from_config(cfg), **own, "temperature": peers.NORMED_TEMPERATURE}

    def classifier(self, linear: nn.Linear) -> nn.Module:
        return normed(with_objectness(linear), self.temperature)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        foreground = targets < self.num_classes
        classes = targets[foreground]
        if torch.is_grad_enabled():  # a validation loss leaves no trace
            counted = torch.bincount(classes, minlength=self.num_classes).float()
            self.seen += sum_over_workers(counted).round().long()
        losses = F.cross_entropy(logits[:, -2:], (~foreground).long(), reduction="none")
        of_class = F.cross_entropy(self._balanced(logits[foreground, :-2], classes), classes, reduction="none")
        return mean_over_workers(losses.index_add(0, foreground.nonzero().squeeze(1), of_class))

    def _balanced(self, logits: Tensor, classes: Tensor) -> Tensor:
        """(P, C) z + log S of (P, C) logits."""
        n = self.seen.clamp(min=1).float()
        mitigation = (n / n[classes, None]).clamp(max=1.0)
        scores = logits.detach().softmax(dim=1)
        own = scores.gather(1, classes[:, None]).clamp(min=self.eps)
        compensation = (scores / own).clamp(min=1.0)
        return logits + self.p * mitigation.log() + self.q * compensation.log()

    def scores(self, logits: Tensor) -> Tensor:
        objectness = logits[:, -2:].softmax(dim=1)
        return torch.cat([logits[:, :-2].softmax(dim=1) * objectness[:, :1], objectness[:, 1:]], dim=1)
