"""First-hitting sampling: the reverse process without steps of time, jump by jump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.samplers.canvas import Canvas
from mdmkit.choosing import Unmasking
from mdmkit.diffusion import TINY, time_at_mask_rate, uniform_subset
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Generation


@frozen(kw_only=True)
class FirstHitting(Unmasking):
    """The reverse process exactly, from one lifted mask to the next (arXiv 2409.02908, §4).

    With n masks left at time t the next jump is at the s with 1 − alpha_s = (1 − alpha_t)·u^(1/n),
    u uniform; there a mask, chosen uniformly, is lifted and its token drawn from p(x0 | xt). So
    it is `ancestral` in the limit of many steps, without any error of the steps, in as many calls
    as a row has masks. Rows jump at times of their own, so a batch takes the calls of its row
    with the most masks; all rows are shown each time, which keeps one shape.

    With ``tokens_per_call`` = k successive jumps share one answer, at the time of their first: k
    times fewer calls, and the tokens of a call are drawn without seeing each other, which is the
    error of few ancestral steps.
    """

    tokens_per_call: int = option(1, ge=1, doc="successive jumps of a row that share a call")
    prediction: ClassVar[Prediction] = "masked"

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        canvas = Canvas(tokens, context, self)
        clock = context.uniform()  # [B, L]
        times, order = _jump_times(context, clock), -clock  # the latest goes first, for t falls
        while not canvas.done or canvas.step == 0:
            noise = context.uniform()  # [B, L]
            hidden = canvas.hidden
            t = times.masked_fill(~hidden, TINY).amax(-1)  # [B]
            count = torch.full_like(canvas.worked, self.tokens_per_call)
            lifted = canvas.few_enough(uniform_subset(order, count, hidden), order)
            canvas.lift(t, lifted, noise)
            yield canvas.state()


def _jump_times(context: SamplerContext, clock: Tensor) -> Tensor:
    """When each mask is lifted: ``[B, L]`` float64.

    A mask is still there at s with probability (1 − alpha_s)/(1 − alpha_1), independently, so the
    mask rates at the jumps are (1 − alpha_1)·u with independent u, the `clock`; and the largest
    of n of them is u^(1/n) in law.
    """
    alpha = context.noise_schedule.alpha
    rates = (1 - alpha(clock.new_ones(1))) * clock
    return time_at_mask_rate(alpha, rates.flatten()).view_as(clock)
