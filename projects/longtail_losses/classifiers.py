"""What several peers need of the classifier, the data and the config: normed layers, further outputs, class counts.

Shape shorthand:
    N: ROIs of a batch      D: features      C: object classes      A: outputs of the classifier
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from reg_d2.modeling.settings import check_range, class_counts


class NormedLinear(nn.Module):
    """A cosine classifier with a fixed temperature T: logit_a = T <x / |x|, w_a / |w_a|> + b_a.

    Its parameters are those of a linear layer, unchanged: only the forward pass norms them. (CosineLinear of reg_d2
    is another thing: rows that stay on the sphere, T learned.)
    Source: mmdetection, ``NormedLinear`` (power 1), of Wang et al., Seesaw Loss, 2021.
    """

    def __init__(self, linear: nn.Linear, temperature: float = 20.0, bias: bool = True):
        """
        Args:
            linear: gives the weight (A, D) and the bias (A,).
            temperature: T > 0.
            bias: False leaves the bias out.

        Raises:
            ValueError: a temperature that is not positive.
        """
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature of the normed classifier is {temperature}: expected a number > 0")
        self.temperature = temperature
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, A) float32 logits of (N, D) features; under autocast too: the squares of a norm overflow float16."""
        with torch.autocast(x.device.type, enabled=False):
            x = self.temperature * F.normalize(x.float(), dim=1, eps=1e-6)
            return F.linear(x, F.normalize(self.weight.float(), dim=1, eps=1e-6), self.bias)


def normed(linear: nn.Linear, temperature: float) -> nn.Module:
    """The layer as a :class:`NormedLinear`; as it is where the temperature, >= 0, is 0."""
    check_range("PEERS.NORMED_TEMPERATURE", temperature, "[0, inf)")
    return NormedLinear(linear, temperature) if temperature else linear


def with_objectness(linear: nn.Linear) -> nn.Linear:
    """From C + 1 rows (classes, background) to C + 2: classes, object, background.

    The new row starts like the others, N(0, 0.01^2) with bias 0, from a generator of its own: the global one goes on
    as if the row were not there.
    """
    larger = nn.utils.skip_init(nn.Linear, linear.in_features, linear.out_features + 1)
    generator = torch.Generator().manual_seed(torch.initial_seed() ^ 1)
    row = 0.01 * torch.randn(1, linear.in_features, generator=generator)
    with torch.no_grad():
        larger.weight.copy_(torch.cat([linear.weight[:-1], row, linear.weight[-1:]]))
        larger.bias.copy_(torch.cat([linear.bias[:-1], torch.zeros(1), linear.bias[-1:]]))
    return larger


def one_hot(targets: Tensor, num_classes: int, background: bool = False) -> Tensor:
    """(N, C) float32 of (N,) class indices; a background row is all 0. With ``background`` (N, C + 1)."""
    return F.one_hot(targets, num_classes + 1)[:, : num_classes + background].float()


def object_counts(cfg: CfgNode) -> Tensor:
    """(C,) float32 numbers of training objects: the same that REG's class weights are made of (E9).

    Raises:
        ValueError: no counts in the config, or a class without objects.
    """
    loss = f"MODEL.REG.BOX.LOSS {cfg.MODEL.REG.BOX.LOSS!r}"
    names, counts = class_counts(cfg, "BOX")
    if not counts:
        raise ValueError(f"{loss} needs the training set's counts: build the config with reg_d2.engine.setup")
    empty = [repr(name) for name, n in zip(names, counts, strict=True) if n == 0]
    if empty:
        raise ValueError(
            f"{loss} needs objects of every class, and the training set has none of {', '.join(empty)}: remove the "
            "class from its categories, or add annotations"
        )
    return torch.tensor(counts, dtype=torch.float32)
