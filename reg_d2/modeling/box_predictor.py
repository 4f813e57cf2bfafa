"""REG on the box head: Detectron2's Fast R-CNN output layers with the classification loss of E3.

Shape shorthand:
    N: ROIs of a batch      C: object classes      A: outputs of the classifier, C (sigmoid) or C + 1 (softmax)

With uncertainty (E6) the first of the two predictions is (N, 2A): the logits' means, then their log variances. All
that Detectron2 does with predictions goes on to work: it passes them on, and reads the second alone.
"""

import torch
from detectron2.config import configurable
from detectron2.layers import cat
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from torch import Tensor, nn

from ..losses import (
    LossSettings,
    box_class_losses,
    box_terms,
    clamp_log_variance,
    divide,
    marginal_log_softmax,
    marginal_logit,
    mean_for_probability,
    probability_std,
    softmax_std,
)
from ..optim import CosineLinear, PrimalDual
from .box_loss import BoxLoss, without_background
from .distributed import reduce_mean
from .loss_state import LossState, say_fresh_variance
from .settings import (
    box_loss,
    check_range,
    class_counts,
    class_prior,
    head_class_weights,
    loss_settings,
    primal_dual,
    start_iteration,
)


class REGFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Fast R-CNN output layers whose classifier is trained with REG (E1, E3, E4, E6-E8) or with cross-entropy."""

    @configurable
    def __init__(
        self,
        input_shape,
        *,
        settings: LossSettings,
        box_loss: BoxLoss | None = None,
        class_weight: Tensor | None = None,
        weight_from: int = 0,
        refinement_from: int = 0,
        balance: PrimalDual | None = None,
        class_names: list[str] | None = None,
        class_prior: Tensor | None = None,
        prior: float = 0.01,
        foreground_momentum: float = 0.9,
        initial_log_variance: float = -4.0,
        temperature: float | None = None,
        **kwargs,
    ):
        """
        Args:
            input_shape, kwargs: as in Detectron2's FastRCNNOutputLayers.
            settings: of the loss; of cross-entropy where there is a ``box_loss``.
            box_loss: what a project registered in place of our losses, with its outputs and scores; or None.
            class_weight: (C,) or None for 1.
            weight_from: the iteration from which they act.
            refinement_from: the iteration from which g acts (E4).
            balance: multipliers of the classes (E12), or None.
            class_names: C names for the log.
            class_prior: (C,) logits of the classes' shares of the objects, for E8; None: 0.
            prior: probability of every class at the start, in (0, 1); ``sigmoid`` only.
            foreground_momentum: of the running number of foreground ROIs, in [0, 1); ``sigmoid`` only.
            initial_log_variance: log sigma^2 of every logit at the start (E7).
            temperature: of a cosine classifier (E13); None for a linear one.

        Raises:
            ValueError: a prior out of range; a cosine classifier beside a ``box_loss`` that has a normed one.
        """
        super().__init__(input_shape, **kwargs)
        if not 0 < prior < 1:
            raise ValueError(f"MODEL.REG.BOX.PRIOR is {prior}: expected a probability in (0, 1)")
        self.settings = settings
        self.foreground_momentum = foreground_momentum
        sigmoid = settings.activation == "sigmoid"
        num_classes = self.cls_score.out_features - 1
        self.box_loss = box_loss
        if box_loss is not None:
            self.cls_score = box_loss.classifier(self.cls_score)
        if sigmoid:
            self.cls_score = without_background(self.cls_score)
            # 0 means: not seen yet. Saved with the model, so that a resumed run goes on as if never stopped.
            self.register_buffer("foreground_mean", torch.zeros(()))
        if temperature is not None:
            if not isinstance(self.cls_score, nn.Linear):
                raise ValueError(
                    f"MODEL.REG.BOX.LOSS ({type(box_loss).__name__}) brings a classifier of its own "
                    f"({type(self.cls_score).__name__}), which MODEL.REG.BOX.COSINE.ENABLED would replace: set that to "
                    "False, or choose a loss with a linear classifier"
                )
            self.cls_score = CosineLinear.from_linear(self.cls_score, temperature)
        self.cls_log_variance = None
        if settings.uncertainty is not None:
            self.cls_log_variance = _constant_linear(
                self.cls_score.weight.shape[1], self.cls_score.weight.shape[0], initial_log_variance
            )
            self.register_load_state_dict_post_hook(say_fresh_variance)
        if sigmoid:
            nn.init.constant_(self.cls_score.bias, self._start_logit(prior, initial_log_variance))
        # The background is no class with a count: its prior is 1/2 either way.
        shares = torch.zeros(num_classes) if class_prior is None else class_prior
        self.loss_state = LossState(
            "box",
            settings,
            num_classes,
            class_names=class_names,
            class_weight=class_weight,
            weight_from=weight_from,
            refinement_from=refinement_from,
            balance=balance,
            prior_mean=shares if sigmoid else torch.cat([shares, shares.new_zeros(1)]),
        )

    @classmethod
    def from_config(cls, cfg, input_shape):
        class_weight = head_class_weights(cfg, "BOX")
        node = cfg.MODEL.REG.BOX
        check_range("BOX.FOREGROUND_MOMENTUM", node.FOREGROUND_MOMENTUM, "[0, 1)")
        return {
            **super().from_config(cfg, input_shape),
            "settings": loss_settings(node, "BOX"),
            "box_loss": box_loss(cfg),
            "class_weight": class_weight,
            "weight_from": start_iteration(cfg, "BOX", "CLASS_WEIGHT"),
            "refinement_from": start_iteration(cfg, "BOX", "REFINEMENT"),
            "balance": primal_dual(cfg, "BOX", class_weight, cfg.MODEL.ROI_HEADS.NUM_CLASSES),
            "class_names": class_counts(cfg, "BOX")[0],
            "class_prior": class_prior(cfg),
            "prior": node.PRIOR,
            "foreground_momentum": node.FOREGROUND_MOMENTUM,
            "initial_log_variance": node.UNCERTAINTY.INITIAL_LOG_VARIANCE,
            "temperature": node.COSINE.TEMPERATURE if node.COSINE.ENABLED else None,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, A) logits, or (N, 2A) means and log variances, and (N, .) box deltas of ROI features (N, ...)."""
        x = x.flatten(start_dim=1)
        logits, deltas = super().forward(x)
        if self.cls_log_variance is not None:
            logits = torch.cat([logits.float(), clamp_log_variance(self.cls_log_variance(x))], dim=1)
        return logits, deltas

    def losses(self, predictions, proposals):
        """Detectron2's losses with ``loss_cls`` replaced.

        Args:
            predictions: of :meth:`forward`.
            proposals: sampled proposals with ``gt_classes`` and, when refinement is on, ``class_distance`` (., C).

        Returns:
            ``loss_cls`` and ``loss_box_reg``, each times its entry in ``loss_weight``; with the free energy (E8) also
            ``loss_cls_kl``, which goes with ``loss_cls``.
        """
        logits, log_variance = self._split(predictions[0])
        losses = super().losses((self._with_background(logits), predictions[1]), proposals)
        weight = self.loss_weight.get("loss_cls", 1.0)
        losses["loss_cls"] = self._classification_loss(logits, log_variance, proposals) * weight
        uncertainty = self.settings.uncertainty
        if uncertainty is not None and uncertainty.free_energy is not None:
            losses["loss_cls_kl"] = self.loss_state.kl(logits, log_variance) * weight
        return losses

    def predict_probs(self, predictions, proposals):
        """Scores of each image, (R_i, C + 1) in [0, 1]: marginals with uncertainty (E7); the background of ``sigmoid``
        is 0, or what a ``box_loss`` says."""
        if self.box_loss is not None:
            return self.box_loss.scores(predictions[0].float()).split([len(p) for p in proposals])
        logits, log_variance = self._split(predictions[0])
        if log_variance is not None:
            logits = self._marginal(logits, log_variance)
        if self.settings.activation == "softmax":
            return super().predict_probs((logits, predictions[1]), proposals)
        probs = logits.sigmoid()
        probs = torch.cat([probs, probs.new_zeros(len(probs), 1)], dim=1)
        return probs.split([len(p) for p in proposals], dim=0)

    def predict_std(self, predictions, proposals) -> tuple[Tensor, ...]:
        """Standard deviation of the probabilities of each image under q (E6), (R_i, A); only with uncertainty."""
        logits, log_variance = self._split(predictions[0])
        if self.settings.activation == "softmax":
            std = softmax_std(logits, log_variance)
        else:
            std = probability_std(logits, log_variance, self.settings.uncertainty.distribution)
        return std.split([len(p) for p in proposals], dim=0)

    def inference(self, predictions, proposals):
        """As Detectron2's; with uncertainty each instance has ``score_std``, (R,) in [0, 1]."""
        instances, kept = super().inference(predictions, proposals)
        if self.cls_log_variance is not None:
            probs, boxes = self.predict_probs(predictions, proposals), self.predict_boxes(predictions, proposals)
            stds = self.predict_std(predictions, proposals)
            for x, rows, std, p, b in zip(instances, kept, stds, probs, boxes, strict=True):
                # Detectron2 counts `rows` without those that are not finite.
                finite = torch.isfinite(p).all(dim=1) & torch.isfinite(b).all(dim=1)
                x.score_std = std[finite][rows, x.pred_classes]
        return instances, kept

    def _classification_loss(self, logits: Tensor, log_variance: Tensor | None, proposals) -> Tensor:
        targets = cat([p.gt_classes for p in proposals], dim=0)
        if self.box_loss is not None:
            return self.box_loss(logits.float(), targets)
        state, settings = self.loss_state, self.loss_state.settings_now()
        refinement = settings.refinement
        distance = None if refinement is None else cat([p.class_distance for p in proposals], dim=0)
        terms = box_terms(logits, targets, settings, state.weights(), distance, log_variance, learned=state.learned())
        if state.balance is not None:
            state.update_balance(*box_class_losses(logits, targets, settings, log_variance))
        g_mean = None if refinement is None else terms.refinement / terms.count.clamp(min=1)
        state.log(g_mean, log_variance)
        sigmoid = settings.activation == "sigmoid"
        return divide(
            terms,
            by="foreground" if sigmoid else "weights",
            renormalize=refinement is not None and refinement.renormalize,
            average=reduce_mean,
            smooth=self._smooth_foreground if sigmoid else None,
        )

    def _smooth_foreground(self, count: Tensor) -> Tensor:
        """Running mean of the number of foreground ROIs a worker has, started at the first one seen.

        It is kept in training steps alone, not in passes without gradients.
        """
        m = self.foreground_momentum
        smoothed = torch.where(self.foreground_mean > 0, m * self.foreground_mean + (1 - m) * count, count).detach()
        if torch.is_grad_enabled():
            self.foreground_mean.copy_(smoothed)
        return smoothed

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, A) logits and (N, A) log variances, or None for these."""
        if self.cls_log_variance is None:
            return outputs, None
        return outputs.chunk(2, dim=1)

    def _marginal(self, logits: Tensor, log_variance: Tensor) -> Tensor:
        """(N, A) logits of p_hat (E7); samples are drawn from a generator of their own, so that scores repeat."""
        u = self.settings.uncertainty
        generator = torch.Generator(logits.device).manual_seed(0) if u.method == "monte_carlo" else None
        options = {"method": u.method, "num_samples": u.num_samples, "generator": generator}
        if self.settings.activation == "softmax":
            return marginal_log_softmax(logits, log_variance, **options)
        return marginal_logit(logits, log_variance, distribution=u.distribution, **options)

    def _start_logit(self, prior: float, log_variance: float) -> float:
        """The bias at which the (marginal) probability is the prior (E1, E7)."""
        u = self.settings.uncertainty
        if u is None:
            return torch.logit(torch.tensor(prior, dtype=torch.float64)).item()
        return mean_for_probability(prior, log_variance, u.method, u.distribution)

    def _with_background(self, logits: Tensor) -> Tensor:
        """(N, C + 1) for Detectron2's accuracy statistics: with ``sigmoid``, background wins where every p < 1/2."""
        if self.box_loss is not None:
            return self.box_loss.scores(logits.detach().float())
        if self.settings.activation == "softmax":
            return logits
        return torch.cat([logits, logits.new_full((len(logits), 1), self.settings.even)], dim=1)


def _constant_linear(in_features: int, out_features: int, value: float) -> nn.Linear:
    """A layer that starts as a constant, and draws no random number on its way: all losses start alike."""
    layer = nn.utils.skip_init(nn.Linear, in_features, out_features)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer
