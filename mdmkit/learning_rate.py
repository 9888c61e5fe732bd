"""The learning rate over its peak, as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdmkit.recipe import LearningRate


def learning_rate_fraction(options: LearningRate, steps: int) -> Callable[[int], float]:
    """The learning rate over its peak as a function of the 0-based step.

    Linear warm-up over ``warmup_steps``, then ``constant``; ``cosine`` or ``linear`` down to
    ``final_fraction`` at the last step; or ``wsd``: constant, then linear decay over the last
    ``decay_fraction`` of the run (arXiv 2404.06395).
    """
    final, warmup = options.final_fraction, options.warmup_steps
    decay_start = round(steps * (1 - options.decay_fraction))

    def progress(step: int, start: int) -> float:
        return min(max((step - start) / max(steps - start, 1), 0.0), 1.0)

    shapes: dict[str, Callable[[int], float]] = {
        "constant": lambda _: 1.0,
        "linear": lambda step: 1 - (1 - final) * progress(step, warmup),
        "cosine": lambda step: (
            final + (1 - final) * (1 + math.cos(math.pi * progress(step, warmup))) / 2
        ),
        "wsd": lambda step: 1 - (1 - final) * progress(step, max(decay_start, warmup)),
    }
    shape = shapes[options.shape]
    return lambda step: (step + 1) / warmup if step < warmup else shape(step)
