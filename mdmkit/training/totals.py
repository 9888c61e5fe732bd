"""What the ranks agree on at each step, without making any device wait for its host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mdmkit.training.distributed import World
from mdmkit.values import Noised


class Totals:
    """The denominator of each step, and whether any rank has a reason to stop."""

    def __init__(self, world: World, stop: Callable[[], bool]) -> None:
        """`stop` says at each step whether this rank has a reason; none has one yet."""
        self._world = world
        self._stop = stop
        self._asked: Later | None = None

    def denominator(self, micro_batches: Sequence[Noised]) -> Tensor:
        """What the losses of the step are divided by: float32 scalar on the device, never 0.

        It is counted over all micro-batches of all ranks; the ranks' reasons to stop travel
        with it.
        """
        share = torch.stack([noised.denominator for noised in micro_batches]).sum()
        mine = torch.stack([share, torch.tensor(float(self._stop())).double()])
        total, asked = self._world.sum(mine.to(self._world.device, non_blocking=True))
        self._asked = Later(asked)
        found: Tensor = total.where(total > 0, 1.0).float()
        return found

    def ask(self) -> bool:
        """Whether any rank has a reason now, the same on every rank; this waits for all of them."""
        mine = torch.tensor(float(self._stop()), dtype=torch.float64)
        return self._world.sum(mine).item() > 0

    def stopping(self) -> bool:
        """Whether any rank had a reason before the last step, the same on every rank.

        This waits until the device has begun that step, so the host is one step ahead at most.
        """
        return self._asked is not None and self._asked.read() > 0


class Later:
    """A number of a device for the host to read later."""

    def __init__(self, value: Tensor) -> None:
        """Have the scalar `value` copied when the device comes to it."""
        self._copy, self._done = value, None
        if value.is_cuda:
            self._copy = torch.empty((), dtype=value.dtype, pin_memory=True)
            self._copy.copy_(value, non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def read(self) -> float:
        """The number; this waits for the copy."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy.item()
