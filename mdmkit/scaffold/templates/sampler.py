"""A sampler for mdmkit: as many masks at once as the network is sure of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.choosing import Choosing
from mdmkit.diffusion import scattered, times_of_counts
from mdmkit.protocols import Prediction, Sampler, SamplerContext
from mdmkit.values import Attention, Generation

MDMKIT_API = 1


@frozen(kw_only=True)
class Example(Choosing):
    """Draws every mask's token and keeps those of probability ``enough``, one a row at least."""

    enough: float = option(0.8, ge=0, le=1, doc="a token of this probability is kept")
    prediction: ClassVar[Prediction] = "masked"

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``, yielding every state."""
        mask_id, alpha = context.vocab.mask_id, context.noise_schedule.alpha
        times = times_of_counts(alpha, tokens.shape[1], context.device)  # [L + 1]
        log_p = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        step = 0
        while step == 0 or (tokens == mask_id).any():
            hidden = tokens == mask_id  # [B, L]
            t = times[hidden.sum(-1)].float()  # [B]
            logits = context.logits(tokens, t, Attention(), hidden)  # [N, V]
            drawn = self.choose(logits, context.uniform()[hidden], mask_id)
            sure = scattered(drawn.log_p.exp(), hidden)  # [B, L]
            kept = hidden & (sure >= sure.amax(-1, keepdim=True).clamp(max=self.enough))
            tokens = torch.where(kept, scattered(drawn.tokens, hidden), tokens)
            log_p = torch.where(kept, scattered(drawn.log_p, hidden), log_p)
            step += 1
            yield Generation(tokens=tokens, step=step, network_evaluations=step, log_p=log_p)


@hookimpl
def mdmkit_samplers() -> Mapping[str, type[Sampler]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(enough=0.2, temperature=0.5)
