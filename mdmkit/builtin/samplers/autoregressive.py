"""Left-to-right sampling, for networks that predict the next token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.samplers.choosing import Choosing
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Attention, Generation


@frozen(kw_only=True)
class AutoregressiveSampler(Choosing):
    """One token after the other, from the left, each given all before it.

    The network sees what it saw in training: the text shifted right by one, with BOS (else EOS,
    else the mask) in front. It keeps no cache, so each token costs a call on the whole length.
    """

    prediction: ClassVar[Prediction] = "next_token"

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`.

        A token that is visible from the start conditions those to its right only.
        """
        mask_id, calls = context.vocab.mask_id, 0
        first = torch.full_like(tokens[:, :1], context.vocab.start_id)
        noise = context.uniform()  # [B, L], one number a token
        log_p = torch.zeros_like(noise)
        for i in range(tokens.shape[1]):
            hidden = tokens[:, i] == mask_id  # [B]
            if hidden.any():
                # the masks still to the right do no harm: attention is causal
                inputs = torch.cat([first, tokens[:, :-1]], dim=-1)
                logits = context.logits(inputs, None, Attention(causal=True))[:, i]  # [B, V]
                calls += 1
                drawn = self.choose(logits, noise[:, i], mask_id)
                tokens = tokens.clone()
                tokens[:, i] = torch.where(hidden, drawn.tokens, tokens[:, i])
                log_p[:, i] = torch.where(hidden, drawn.log_p, log_p[:, i])
            yield Generation(tokens=tokens, step=i + 1, network_evaluations=calls, log_p=log_p)
