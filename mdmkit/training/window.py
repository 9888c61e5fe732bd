"""Sums over the steps since the last log line, kept on the device until they are asked for."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.training.distributed import World

LOSS, NORM, STEPS, SKIPPED, STREAK, WORST_STREAK = range(6)


@frozen(kw_only=True)
class WindowSummary:
    """What the steps since the last log line came to.

    Attributes:
        loss: mean over finite steps, or None without one.
        grad_norm: likewise, before clipping.
        nonfinite_steps: how many steps of the run so far were skipped.
        worst_streak: the longest row of skipped steps.
    """

    loss: float | None
    grad_norm: float | None
    nonfinite_steps: int
    worst_streak: int


class Window:
    """Running sums; adding never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        """Start with nothing."""
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, norm: Tensor, finite: Tensor) -> None:
        """Take one step's loss (this rank's share), gradient norm, and whether it counted."""
        sums = self.sums
        zero = torch.zeros((), dtype=torch.float64, device=sums.device)
        sums[LOSS] += torch.where(finite, loss.detach().double(), zero)
        sums[NORM] += torch.where(finite, norm.double(), zero)
        sums[STEPS] += finite
        sums[SKIPPED] += ~finite
        sums[STREAK] = torch.where(finite, zero, sums[STREAK] + 1)
        sums[WORST_STREAK] = torch.maximum(sums[WORST_STREAK], sums[STREAK])

    def read(self, world: World) -> WindowSummary:
        """What came together; this waits for the device, and for the other ranks."""
        loss = world.sum(self.sums[LOSS]).item()
        _, norm, steps, skipped, _, streak = self.sums.tolist()
        return WindowSummary(
            loss=loss / steps if steps else None,
            grad_norm=norm / steps if steps else None,
            nonfinite_steps=int(skipped),
            worst_streak=int(streak),
        )

    def restart(self) -> None:
        """Begin the next window; what counts for the whole run stays."""
        self.sums[LOSS:SKIPPED] = 0.0
