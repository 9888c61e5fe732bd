"""Ancestral sampling: the reverse process of masked diffusion in equal steps of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.samplers.categorical import draw_tokens
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Attention, Generation


@frozen(kw_only=True)
class Ancestral:
    """From t = 1 to 0 in equal steps (MDLM, arXiv 2406.07524, eq. 6).

    From t to s < t each mask is lifted with probability (alpha_s − alpha_t)/(1 − alpha_t),
    independently, and the tokens under the lifted masks are drawn independently from
    p(x0 | xt). The more steps, the fewer tokens are drawn at once without seeing each other.
    """

    steps: int = option(128, ge=1, doc="equal steps of t; the last lifts every mask left")
    temperature: float = option(1.0, gt=0, doc="divides the logits; 1: as trained")
    prediction: ClassVar[Prediction] = "masked"

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`.

        A step that lifts no mask of the batch calls no network.
        """
        mask_id, calls = context.vocab.mask_id, 0
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        alphas = context.noise_schedule.alpha(times).tolist()
        for step in range(self.steps):
            alpha_t, alpha_s = alphas[step], alphas[step + 1]
            last = step + 1 == self.steps
            chance = 1.0 if last else (alpha_s - alpha_t) / (1 - alpha_t)
            lift_noise, token_noise = context.uniform(), context.uniform()  # both always drawn
            lifted = (tokens == mask_id) & (lift_noise < chance)
            if lifted.any():
                t = times[step].float().to(tokens.device).expand(len(tokens))
                logits = context.logits(tokens, t, Attention())[lifted]  # [N, V]
                calls += 1
                drawn = draw_tokens(logits, token_noise[lifted], mask_id, self.temperature)
                tokens = tokens.masked_scatter(lifted, drawn)
            yield Generation(tokens=tokens, step=step + 1, network_evaluations=calls)
