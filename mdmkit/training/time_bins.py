"""The training loss by time: sums in equal bins of t, kept on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mdmkit.training.distributed import World
from mdmkit.values import Loss, Noised

BINS = 10


class TimeBins:
    """Cross-entropies and masked tokens of the rows by their time; adding never waits."""

    def __init__(self, device: torch.device) -> None:
        """Start with nothing."""
        self.sums = torch.zeros(2, BINS, dtype=torch.float64, device=device)

    def add(self, noised: Sequence[Noised], losses: Sequence[Loss]) -> None:
        """Take the micro-batches of a step; rows without a time are left out.

        A row whose cross-entropy is not finite is left out, too: its step changed nothing.
        """
        for sample, loss in zip(noised, losses, strict=True):
            if sample.t is None:
                continue
            place = (sample.t * BINS).long().clamp(0, BINS - 1).to(self.sums.device)
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
