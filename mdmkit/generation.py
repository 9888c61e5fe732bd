"""Runs a sampler on a network, batch by batch, and holds it to its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.draws import RowStreams
from mdmkit.errors import PluginError
from mdmkit.protocols import (
    CachingDenoiser,
    Denoiser,
    NetworkCall,
    NoiseSchedule,
    Sampler,
    SamplerContext,
)
from mdmkit.values import Attention, Generation, Vocabulary

Progress = Callable[[int, int], object]
"""Called with (rows done, rows)."""


@frozen(kw_only=True, eq=False)
class LiveGenerate:
    """A `mdmkit.protocols.GenerateCall` on a live network.

    Attributes:
        call: runs a function of the denoiser.
        vocab, noise_schedule: of the run.
        length: the longest row that the network was trained on.
        device: where it lives.
        supports: what the denoiser can do; with ``cache`` samplers are given one.
    """

    call: NetworkCall
    vocab: Vocabulary
    noise_schedule: NoiseSchedule
    length: int
    device: torch.device
    supports: frozenset[str] = frozenset()

    def __call__(
        self, sampler: Sampler, start: Tensor, *, rows: Sequence[int], seed: int
    ) -> Iterator[Generation]:
        """Every state from ``start [B, L]`` on; see `mdmkit.protocols.GenerateCall`."""
        start = start.to(self.device)
        noise = RowStreams(seed, rows, start.shape[1])
        context = SamplerContext(
            logits=self._logits,
            uniform=lambda: noise().to(self.device),
            vocab=self.vocab,
            noise_schedule=self.noise_schedule,
            device=self.device,
            length=self.length,
            new_cache=self._new_cache,
        )
        name, state = f"sampler {type(sampler).__name__}", None
        if start.shape[1] > self.length and not getattr(sampler, "any_length", False):
            raise PluginError(
                f"{name}: it fills {self.length} tokens at most, as many as the network was "
                f"trained on; got {start.shape[1]}"
            )
        for state in sampler.generate(start, context):
            yield state
        if state is None:
            raise PluginError(f"{name}: generate() yielded no state")
        self._require_text(name, start, state.tokens)

    def _require_text(self, name: str, start: Tensor, tokens: Tensor) -> None:
        """Refuse what is no text, or another than was begun."""
        if tokens.shape != start.shape or tokens.dtype != torch.int64:
            raise PluginError(
                f"{name}: its last state has tokens {list(tokens.shape)} {tokens.dtype}; expected "
                f"{list(start.shape)} int64"
            )
        if (tokens == self.vocab.mask_id).any():
            raise PluginError(f"{name}: its last state still holds masks; expected none")
        if not ((tokens >= 0) & (tokens < self.vocab.size)).all():
            raise PluginError(
                f"{name}: its last state has ids outside of the vocabulary of {self.vocab.size}"
            )
        visible = start != self.vocab.mask_id
        if not torch.equal(start[visible], tokens[visible]):
            raise PluginError(f"{name}: it changed tokens that were visible from the start")

    def _logits(
        self, xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        def look(denoiser: Denoiser) -> Tensor:
            h = denoiser(xt, t=t, attention=attention)
            return denoiser.unembed(h if at is None else h[at])

        return self.call(look)

    def _new_cache(self, rows: int, length: int) -> object | None:
        if "cache" not in self.supports:
            return None
        made: list[object] = []

        def make(denoiser: Denoiser) -> Tensor:
            made.append(cast("CachingDenoiser", denoiser).new_cache(rows, length))
            return torch.zeros(())  # what is called must return a tensor

        self.call(make)
        return made[0]
