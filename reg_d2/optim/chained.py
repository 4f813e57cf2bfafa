"""Several optimisers, each with its own parameters, as one."""

from collections.abc import Callable, Sequence

import torch
from torch.optim import Optimizer


class ChainedOptimizer(Optimizer):
    """Optimisers that step one after the other and share their groups and state with the chain.

    ``param_groups`` is the concatenation of theirs and ``state`` the union, as the same objects: a learning rate that
    a scheduler sets here is theirs, and ``state_dict`` has the layout of any torch optimiser.
    """

    def __init__(self, optimizers: Sequence[Optimizer]):
        """
        Args:
            optimizers: with no parameter in common.

        Raises:
            ValueError: a parameter is in two of them.
        """
        self.optimizers = tuple(optimizers)
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        for optimizer in self.optimizers:
            self.state.update(optimizer.state)
        self._share()

    def add_param_group(self, param_group: dict) -> None:
        """Takes the members' own groups only, at construction.

        Raises:
            ValueError: a group of none of them, which nothing would update.
        """
        if not any(param_group is group for optimizer in self.optimizers for group in optimizer.param_groups):
            raise ValueError("a chain has no optimiser for a new group: add it to a member, then build the chain anew")
        super().add_param_group(param_group)

    def step(self, closure: Callable | None = None):
        """One step of every member; ``closure`` is evaluated once, before the first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def __setstate__(self, state: dict) -> None:
        # torch's load_state_dict ends here, with new objects for groups and state.
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        start = 0
        for optimizer in self.optimizers:
            stop = start + len(optimizer.param_groups)
            optimizer.__setstate__({"state": self.state, "param_groups": self.param_groups[start:stop]})
            start = stop
