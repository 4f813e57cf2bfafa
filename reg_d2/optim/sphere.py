"""E13: a cosine classifier whose rows live on the unit sphere.

Shape shorthand:
    N: samples      D: features      A: outputs of the classifier
"""

import math

import torch
import torch.nn.functional as F
from geoopt import ManifoldParameter, Sphere
from torch import Tensor, nn

# A norm further from 1 than rounding explains: geoopt's own tolerance for a point of the sphere.
_TOLERANCE = 1e-5


class CosineLinear(nn.Module):
    """Cosine classifier: logit_a = t <x / |x|, w_a> + b_a, with |w_a| = 1 and a learned temperature t.

    Parameters: ``weight`` (A, D), a ``geoopt.ManifoldParameter`` whose rows are points of the unit sphere;
    ``log_temperature`` (), log t; ``bias`` (A,) or None. Train ``weight`` with :func:`build_optimizer`.
    Source: Wang et al., CosFace, 2018 (normalised features and weights, scaled).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, temperature: float = 20.0):
        """
        Args:
            weight: (A, D) rows of any length but 0, which are normalised; D >= 2.
            bias: (A,) or None for a layer without.
            temperature: t at the start, > 0.

        Raises:
            ValueError: a row of zeros; a temperature that is not positive.
        """
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature of the cosine classifier is {temperature}: expected a number > 0")
        weight = weight.detach().float()
        zero = (weight == 0).all(dim=1).nonzero().flatten().tolist()
        if zero:
            raise ValueError(f"row {zero[0]} of the classifier's weight is 0: it has no direction to normalise")
        self.weight = ManifoldParameter(F.normalize(weight, dim=1), manifold=Sphere())
        self.log_temperature = nn.Parameter(weight.new_tensor(math.log(temperature)))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().float().clone()))

    @classmethod
    def from_linear(cls, linear: nn.Linear, temperature: float = 20.0) -> "CosineLinear":
        """Of an existing layer: its rows normalised, its bias as it is, and not one random number drawn."""
        return cls(linear.weight, linear.bias, temperature)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (N, D), any float dtype; a row of zeros has cosine 0 with every class.

        Returns:
            (N, A) float32 logits, under autocast too: the squares of a norm overflow float16.
        """
        with torch.autocast(x.device.type, enabled=False):
            cosine = F.linear(F.normalize(x.float(), dim=1, eps=1e-6), self.weight)
            logits = self.log_temperature.exp() * cosine
            return logits if self.bias is None else logits + self.bias

    def extra_repr(self) -> str:
        outputs, features = self.weight.shape
        return f"in_features={features}, out_features={outputs}, bias={self.bias is not None}"

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        with torch.no_grad():
            # Weights of a plain linear classifier come with any norm. Rows on the sphere stay as they are, to the
            # bit: a resumed run goes on as if never stopped.
            norm = self.weight.norm(dim=1, keepdim=True)
            off = ((norm - 1).abs() > _TOLERANCE) & (norm > 0)
            self.weight.copy_(torch.where(off, self.weight / norm, self.weight))
