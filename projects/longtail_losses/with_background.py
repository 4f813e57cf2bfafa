"""Two sigmoid losses with a background output whose score is p_c (1 - p_background): EQLv2 and ECM.

Shape shorthand:
    N: ROIs of a batch      C: object classes      y: (N, C + 1) one-hot targets, last column background
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from reg_d2.modeling.box_loss import BoxLoss, register_box_loss
from reg_d2.modeling.distributed import mean_over_workers, sum_over_workers
from reg_d2.modeling.settings import check_range

from .classifiers import normed, object_counts, one_hot


class SigmoidWithBackground(BoxLoss):
    """C + 1 sigmoid outputs that start at p = 1/2; the score of a class is p_c (1 - p_background)."""

    def scores(self, logits: Tensor) -> Tensor:
        p = logits.sigmoid()
        return torch.cat([p[:, :-1] * (1 - p[:, -1:]), p[:, -1:]], dim=1)


@register_box_loss("eqlv2")
class EQLv2(SigmoidWithBackground):
    """Equalization loss v2: binary cross-entropy weighted by the gradients that each class has had so far.

    l = 1/N sum_ic w_ic BCE(z_ic, y_ic), with r_c = G+_c / G-_c of the weighted gradients' sums over all steps,
        w- = sigmoid(gamma (r_c - mu)) for negatives,  w+ = 1 + alpha (1 - w-) for positives;
    1 for the background, and for every class before the first gradient.
    Source: Tan et al., Equalization Loss v2, 2021, and its code: gamma 12, mu 0.8, alpha 4, bias 0.
    """

    @configurable
    def __init__(self, *, num_classes: int, gamma: float, mu: float, alpha: float):
        """
        Args:
            num_classes: C.
            gamma, mu: slope, >= 0, and centre of w-.
            alpha: >= 0.

        Raises:
            ValueError: one of them out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.EQLV2.GAMMA", gamma, "[0, inf)")
        check_range("PEERS.EQLV2.MU", mu, "(-inf, inf)")
        check_range("PEERS.EQLV2.ALPHA", alpha, "[0, inf)")
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.register_buffer("positive_gradient", torch.zeros(num_classes))
        self.register_buffer("negative_gradient", torch.zeros(num_classes))

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.REG.PEERS.EQLV2
        return {**super().from_config(cfg), "gamma": node.GAMMA, "mu": node.MU, "alpha": node.ALPHA}

    def weights(self) -> tuple[Tensor, Tensor]:
        """(C + 1,) weights of positives and of negatives."""
        ratio = self.positive_gradient / self.negative_gradient.clamp(min=1e-10)
        negative = torch.sigmoid(self.gamma * (ratio - self.mu))
        negative = torch.where(self.negative_gradient > 0, negative, torch.ones_like(negative))
        negative = torch.cat([negative, negative.new_ones(1)])
        return 1 + self.alpha * (1 - negative), negative

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        y = one_hot(targets, self.num_classes, background=True)
        positive, negative = self.weights()
        weight = torch.where(y > 0, positive, negative)
        if torch.is_grad_enabled():  # a validation loss leaves no trace
            self._collect(logits, y, weight)
        losses = F.binary_cross_entropy_with_logits(logits, y, weight=weight, reduction="none")
        return mean_over_workers(losses.sum(dim=1))

    @torch.no_grad()
    def _collect(self, logits: Tensor, y: Tensor, weight: Tensor) -> None:
        gradient = (logits.sigmoid() - y).abs() * weight
        sums = torch.stack([(gradient * y).sum(dim=0), (gradient * (1 - y)).sum(dim=0)])[:, :-1]
        positive, negative = sum_over_workers(sums)
        self.positive_gradient += positive
        self.negative_gradient += negative


@register_box_loss("ecm")
class ECM(SigmoidWithBackground):
    """Effective class-margin loss: weighted binary cross-entropy of logits with margins.

    l = 1/N sum_ic v_c BCE(2 z_ic + 1/4 log(n+_c / n-_c), y_ic),  n+_c the samples of class c, n-_c all others',
        v_c = a log((1 + a) / a),  a = n-_c / n+_c.
    The background counts as BACKGROUND_RATIO samples for each object. This is the authors'
    e^(z + log(1/w+)) / (e^(z + log(1/w+)) + e^(-z + log(1/w-))), w+- proportional to n-+^(1/4), written as a sigmoid;
    the score takes the plain p = sigmoid(z).
    Source: Cho and Kraehenbuehl, Long-tail Detection with Effective Class-Margins, 2022, and its code: normed linear
    classifier with T = 20, bias 0. (Counts are of objects; theirs are of images.)
    """

    @configurable
    def __init__(self, *, num_classes: int, counts: Tensor, background_ratio: float, temperature: float):
        """
        Args:
            num_classes: C.
            counts: (C,) > 0.
            background_ratio: > 0.
            temperature: of the classifier, see :func:`normed`.

        Raises:
            ValueError: the ratio is out of range.
        """
        super().__init__(num_classes=num_classes)
        check_range("PEERS.ECM.BACKGROUND_RATIO", background_ratio, "(0, inf)")
        self.temperature = temperature
        positive = torch.cat([counts, background_ratio * counts.sum(dim=0, keepdim=True)]).double()
        a = (positive.sum() - positive) / positive
        self.register_buffer("margin", (-a.log() / 4).float(), persistent=False)
        self.register_buffer("weight", (a * torch.log1p(1 / a)).float(), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        peers = cfg.MODEL.REG.PEERS
        own = {"counts": object_counts(cfg), "background_ratio": peers.ECM.BACKGROUND_RATIO}
        return {**super().from_config(cfg), **own, "temperature": peers.NORMED_TEMPERATURE}

    def classifier(self, linear: nn.Linear) -> nn.Module:
        return normed(linear, self.temperature)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        y = one_hot(targets, self.num_classes, background=True)
        losses = F.binary_cross_entropy_with_logits(2 * logits + self.margin, y, reduction="none")
        return mean_over_workers((losses * self.weight).sum(dim=1))
