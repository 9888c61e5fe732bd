"""Ancestral sampling: the reverse process of masked diffusion in equal steps of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.samplers.canvas import Canvas
from mdmkit.choosing import Unmasking
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Generation


@frozen(kw_only=True)
class Ancestral(Unmasking):
    """From t = 1 to 0 in equal steps (MDLM, arXiv 2406.07524, eq. 6), one network call a step.

    From t to s < t each mask is lifted with probability (alpha_s − alpha_t)/(1 − alpha_t),
    independently, and the tokens under the lifted masks are drawn independently from
    p(x0 | xt). The more steps, the fewer tokens are drawn at once without seeing each other.
    `Cached` makes the same text in fewer calls.
    """

    steps: int = option(128, ge=1, doc="equal steps of t; the last lifts every mask left")
    prediction: ClassVar[Prediction] = "masked"

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        canvas = Canvas(tokens, context, self)
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        alphas = context.noise_schedule.alpha(times).tolist()
        step = 0
        while not canvas.done or step == 0:
            # masks that min_steps kept past the last step go on with its time
            now = min(step, self.steps - 1)
            alpha_t, alpha_s = alphas[now], alphas[now + 1]
            last = now + 1 == self.steps
            chance = 1.0 if last else lift_chance(alpha_t, alpha_s)
            order, noise = context.uniform(), context.uniform()  # [B, L], both always drawn
            lifted = canvas.few_enough(canvas.hidden & (order < chance), order)
            self._step(canvas, times[now], lifted, noise)
            step += 1
            yield canvas.state()

    def _step(self, canvas: Canvas, t: Tensor, lifted: Tensor, noise: Tensor) -> None:
        """Lift the masks ``lifted [B, L]`` at time `t`."""
        canvas.draw(lifted, canvas.look(t, lifted), noise)


@frozen(kw_only=True)
class Cached(Ancestral):
    """`Ancestral` without the calls that change nothing: the same text, token by token.

    Which masks a step lifts is drawn before the network is asked, so a step that lifts none needs
    no answer (MDLM's sampler with a cache, arXiv 2406.07524 §4, skips the same steps one later).
    L masks cost L calls at most, however many steps there are.
    """

    rows: bool = option(
        True,
        doc="show the network only the rows that change; false keeps one shape, for compiled ones",
    )

    def _step(self, canvas: Canvas, t: Tensor, lifted: Tensor, noise: Tensor) -> None:
        """Lift the masks, if there are any."""
        canvas.lift(t, lifted, noise, only_changing=self.rows)


def lift_chance(alpha_t: float, alpha_s: float, sigma: float = 0.0) -> float:
    """With which probability a step from t to s lifts a mask.

    Args:
        alpha_t, alpha_s: what survives at its ends.
        sigma: with which probability it masks a token again (ReMDM, arXiv 2503.00307).
    """
    if alpha_t >= 1:  # to the last bit, before the schedule's end: nothing should be masked
        return 1.0
    return min(1.0, max(0.0, (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)))
