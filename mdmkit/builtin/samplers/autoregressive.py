"""Left-to-right sampling, for networks that predict the next token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.samplers.canvas import texts_ended
from mdmkit.choosing import Choosing
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Attention, Generation


@frozen(kw_only=True)
class AutoregressiveSampler(Choosing):
    """One token after the other, from the left, each given all before it.

    The network sees what it saw in training: the text shifted right by one, with BOS (else EOS,
    else the mask) in front. Where the denoiser keeps a key-value cache each token is shown to it
    once. A text longer than the network was trained on goes on from its last half, again with BOS
    in front, whenever that length is full.
    """

    cache: bool = option(
        True,
        doc="keep keys and values, where the denoiser supports it; the same text, up to rounding",
    )
    prediction: ClassVar[Prediction] = "next_token"
    any_length: ClassVar[bool] = True

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`.

        A token that is visible from the start conditions those to its right only.
        """
        vocab, reader = context.vocab, _Reader(tokens, context, cached=self.cache)
        noise = context.uniform()  # [B, L], one number a token
        log_p, generated = torch.zeros_like(noise), tokens == vocab.mask_id
        for i in range(tokens.shape[1]):
            hidden = tokens[:, i] == vocab.mask_id  # [B]
            if hidden.any():
                drawn = self.choose(reader.logits(tokens, i), noise[:, i], vocab.mask_id)
                tokens, log_p = tokens.clone(), log_p.clone()
                tokens[:, i] = torch.where(hidden, drawn.tokens, tokens[:, i])
                log_p[:, i] = torch.where(hidden, drawn.log_p, log_p[:, i])
                if self.eos == "stop":
                    tokens = texts_ended(tokens, generated, vocab)
            yield Generation(
                tokens=tokens, step=i + 1, network_evaluations=reader.calls, log_p=log_p
            )


class _Reader:
    """Shows the network the text up to a position: all of it, or what a cache has not yet.

    Attributes:
        calls: how often the network was called.
    """

    _start: int
    _fed: int
    _cache: object | None

    def __init__(self, tokens: Tensor, context: SamplerContext, *, cached: bool) -> None:
        """Begin at the first position of ``tokens [B, L]``."""
        rows, length = tokens.shape
        self._context, self._cached, self.calls = context, cached, 0
        self._window = min(context.length, length)  # inputs that the network is shown at most
        self._first = torch.full((rows, 1), context.vocab.start_id, device=tokens.device)
        self._begin(0)

    def logits(self, tokens: Tensor, i: int) -> Tensor:
        """``[B, V]`` for position i, given the ones before it."""
        if i - self._start >= self._window:
            self._begin(i - self._window // 2)
        # the input at position j is the token at j − 1, and BOS at the start
        inputs = torch.cat([self._first, tokens[:, self._start : i]], dim=-1)
        inputs = inputs[:, self._fed - self._start :]
        if self._cache is not None:
            self._fed = i + 1
        at = torch.zeros_like(inputs, dtype=torch.bool)
        at[:, -1] = True
        self.calls += 1
        attention = Attention(causal=True, cache=self._cache)
        return self._context.logits(inputs, None, attention, at)

    def _begin(self, start: int) -> None:
        """Look at the text from position `start` on, as if nothing were before it."""
        self._start = self._fed = start  # the first position in sight, and the first not yet fed
        rows = len(self._first)
        self._cache = self._context.new_cache(rows, self._window) if self._cached else None
