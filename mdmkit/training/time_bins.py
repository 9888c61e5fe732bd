"""The training loss by time: sums in equal bins of t, kept on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdmkit.training.distributed import World
from mdmkit.values import Loss

BINS = 10


class TimeBins:
    """Cross-entropies and masked tokens of the rows by their time; adding never waits."""

    def __init__(self, device: torch.device) -> None:
        """Start with nothing."""
        self.sums = torch.zeros(2, BINS, dtype=torch.float64, device=device)

    def add(self, times: Sequence[Tensor | None], losses: Sequence[Loss]) -> None:
        """Take the micro-batches of a step; those without times are left out.

        A row whose cross-entropy is not finite is left out, too: its step changed nothing.

        Args:
            times: ``[B]`` each, on the device.
            losses: of the same micro-batches.
        """
        for t, loss in zip(times, losses, strict=True):
            if t is None:
                continue
            place = (t * BINS).long().clamp(0, BINS - 1)
            good = loss.nll.isfinite()
            values = torch.stack([loss.nll.where(good, 0.0), loss.tokens * good]).double()
            self.sums.index_add_(1, place, values)

    def read(self, world: World) -> dict[float, float]:
        """Mean cross-entropy of a masked token, nats, by the centre of the bin.

        Bins without a token are left out. This waits for the device, and for the other ranks.
        """
        nll, tokens = world.sum(self.sums).tolist()
        return {
            (place + 0.5) / BINS: total / count
            for place, (total, count) in enumerate(zip(nll, tokens, strict=True))
            if count
        }

    def restart(self) -> None:
        """Begin anew."""
        self.sums.zero_()
