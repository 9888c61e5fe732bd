"""An exponential moving average of the weights, with a warm-up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mdmkit.training.distributed import local
from mdmkit.training.sharding import reshard


def ema_decay(updates: int, decay: float) -> float:
    """The decay of the n-th update (1-based): min(decay, (1 + n)/(10 + n)).

    A young average forgets its start: the first update keeps 2/11 of it.
    """
    return min(decay, (1 + updates) / (10 + updates))


class Ema:
    """Averaged copies of a module's trained parameters, sharded as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start at the current weights; a `decay` of 0 keeps no average."""
        self._decay = decay
        self._module = module
        named = module.named_parameters() if decay > 0 else iter(())
        self._live = {name: parameter for name, parameter in named if parameter.requires_grad}
        # In float32 whatever the weights are: a step of the average is far below a bfloat16's.
        self.average = {
            name: p.detach().clone().to(torch.float32) for name, p in self._live.items()
        }

    @property
    def active(self) -> bool:
        """Whether an average is kept."""
        return self._decay > 0

    @torch.no_grad()
    def update(self, step: int, finite: Tensor) -> None:
        """Move towards the weights after the 0-based `step`, if that step was `finite`."""
        if not self.active:
            return
        weight = (1 - ema_decay(step + 1, self._decay)) * finite
        for name, parameter in self._live.items():
            average = local(self.average[name])
            average.lerp_(local(parameter.detach()).to(average.dtype), weight.to(average))

    @contextlib.contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights inside, and its own again after."""
        if not self.active:
            yield
            return
        own = {name: local(p.detach()).clone() for name, p in self._live.items()}
        self._fill({name: local(average) for name, average in self.average.items()})
        try:
            yield
        finally:
            self._fill(own)

    def _fill(self, values: dict[str, Tensor]) -> None:
        reshard(self._module)  # or weights that are still gathered would be used on
        for name, parameter in self._live.items():
            local(parameter.detach()).copy_(values[name])
