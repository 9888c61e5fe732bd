"""Sums over the steps since the last log line, kept on the device until they are asked for."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.training.distributed import World

# Each rank has its own share of the first two; the others are the same on every rank.
LOSS, SCORED, NORM, CLIPPED, STEPS, SKIPPED, STREAK, WORST_STREAK = range(8)
SHARES = slice(LOSS, NORM)


@frozen(kw_only=True)
class WindowSummary:
    """What the steps since the last log line came to.

    Attributes:
        loss: mean over finite steps, or None without one.
        scored: likewise, positions of the global batch whose cross-entropy counted.
        grad_norm: likewise, before clipping.
        clipped: the share of the finite steps whose gradient was clipped.
        nonfinite_steps: how many steps of the run so far were skipped.
        worst_streak: the longest row of skipped steps.
    """

    loss: float | None
    scored: float | None
    grad_norm: float | None
    clipped: float | None
    nonfinite_steps: int
    worst_streak: int


class Window:
    """Running sums; adding never waits for the device."""

    def __init__(self, device: torch.device, clip_norm: float = 0.0) -> None:
        """Start with nothing; steps whose norm is over `clip_norm` (if that is not 0) count."""
        self.sums = torch.zeros(8, dtype=torch.float64, device=device)
        self._clip_norm = clip_norm or torch.inf

    def add(self, loss: Tensor, scored: Tensor, norm: Tensor, finite: Tensor) -> None:
        """Take one step: this rank's share of loss and scored positions, the norm, if it counts."""
        sums = self.sums
        norm, finite = norm.to(sums.device), finite.to(sums.device)  # gradients may be offloaded
        zero = torch.zeros((), dtype=torch.float64, device=sums.device)
        sums[LOSS] += torch.where(finite, loss.detach().double(), zero)
        sums[SCORED] += torch.where(finite, scored.double(), zero)
        sums[NORM] += torch.where(finite, norm.double(), zero)
        sums[CLIPPED] += finite & (norm > self._clip_norm)
        sums[STEPS] += finite
        sums[SKIPPED] += ~finite
        sums[STREAK] = torch.where(finite, zero, sums[STREAK] + 1)
        sums[WORST_STREAK] = torch.maximum(sums[WORST_STREAK], sums[STREAK])

    def read(self, world: World) -> WindowSummary:
        """What came together; this waits for the device, and for the other ranks."""
        loss, scored = world.sum(self.sums[SHARES]).tolist()
        _, _, norm, clipped, steps, skipped, _, streak = self.sums.tolist()

        def mean(total: float) -> float | None:
            return total / steps if steps else None

        return WindowSummary(
            loss=mean(loss),
            scored=mean(scored),
            grad_norm=mean(norm),
            clipped=mean(clipped),
            nonfinite_steps=int(skipped),
            worst_streak=int(streak),
        )

    def restart(self) -> None:
        """Begin the next window; what counts for the whole run stays."""
        self.sums[LOSS:SKIPPED] = 0.0
