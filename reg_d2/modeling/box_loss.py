"""The seam for another loss of the box classifier: a project registers it, ``MODEL.REG.BOX.LOSS`` names it.

Shape shorthand:
    N: ROIs of a batch      C: object classes      A: outputs of the classifier
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from .distributed import mean_over_workers

BOX_LOSSES: dict[str, type["BoxLoss"]] = {}
"""What projects registered: name -> class."""


def register_box_loss(name: str) -> Callable[[type["BoxLoss"]], type["BoxLoss"]]:
    """Class decorator: from here on ``MODEL.REG.BOX.LOSS name`` is this :class:`BoxLoss`.

    Raises:
        ValueError: another class has the name.
    """

    def register(cls):
        if BOX_LOSSES.setdefault(name, cls) is not cls:
            raise ValueError(f"box loss {name!r} is {BOX_LOSSES[name].__module__}'s already: choose another name")
        return cls

    return register


class BoxLoss(nn.Module):
    """A loss of the box classifier, its outputs and its scores; as it stands, softmax cross-entropy: -log p_t.

    A subclass overrides what differs. It adds its settings to ``from_config``, keeps what it gathers over steps in
    buffers (they go into the checkpoint), and makes every worker call each reduction once a step, whatever the
    batch holds. REG and cross-entropy themselves are not of this class: see REGFastRCNNOutputLayers.
    """

    @configurable
    def __init__(self, *, num_classes: int):
        """
        Args:
            num_classes: C.
        """
        super().__init__()
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg):
        return {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}

    @classmethod
    def trained_as(cls, cfg) -> str:
        """The name of the loss in a checkpoint, which an evaluation under a config must have, too.

        ``cross_entropy`` for one that only changes scores at test: it takes every softmax classifier.
        """
        return cfg.MODEL.REG.BOX.LOSS

    def classifier(self, linear: nn.Linear) -> nn.Module:
        """The layer from (N, D) features to (N, A) logits, made of Detectron2's with its C + 1 rows.

        It keeps those rows and draws nothing from the global random generator: every loss starts from the same
        weights, and leaves those of the parts that are made later alone.
        """
        return linear

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar that is attached to the logits even when N = 0.

        Args:
            logits: (N, A) float32.
            targets: (N,) int64 class indices in [0, C], C = background.
        """
        return mean_over_workers(F.cross_entropy(logits, targets, reduction="none"))

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C + 1) float32 in [0, 1], the last column background, of (N, A) float32 logits.

        Detections are made of the first C columns; the last tells, in the log's accuracy, what counts as background.
        """
        return logits.softmax(dim=1)


def without_background(layer: nn.Linear) -> nn.Linear:
    """The classifier less its background row: same random draws for every loss, and no parameter that is never used."""
    smaller = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features - 1)
    with torch.no_grad():
        smaller.weight.copy_(layer.weight[:-1])
        smaller.bias.copy_(layer.bias[:-1])
    return smaller
