"""What the heads need of the other workers."""

import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


def reduce_mean(tensor: Tensor) -> Tensor:
    """Mean of a tensor over the workers, without a gradient; the tensor itself with one worker.

    Every worker must call it equally often: none may skip it because its batch holds nothing.
    """
    world_size = comm.get_world_size()
    if world_size == 1:
        return tensor
    tensor = tensor.detach().clone()
    dist.all_reduce(tensor)
    return tensor / world_size
