"""Runs a sampler on a network, batch by batch, and holds it to its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.draws import RowStreams
from mdmkit.errors import PluginError
from mdmkit.protocols import (
    Denoiser,
    GenerateCall,
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
        state = None
        for state in sampler.generate(start, context):
            yield state
        name = f"sampler {type(sampler).__name__}"
        if state is None:
            raise PluginError(f"{name}: generate() yielded no state")
        if (state.tokens == self.vocab.mask_id).any():
            raise PluginError(f"{name}: its last state still holds masks; expected none")
        visible = start != self.vocab.mask_id
        if not torch.equal(start[visible], state.tokens[visible]):
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
            made.append(denoiser.new_cache(rows, length))  # type: ignore[attr-defined]  # "cache"
            return torch.zeros(())  # what is called must return a tensor

        self.call(make)
        return made[0]


def final_states(
    generate: GenerateCall,
    sampler: Sampler,
    start: Tensor,
    *,
    seed: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Iterator[Generation]:
    """Fill ``start [n, L]`` batch by batch; gives the last state of each batch.

    A row depends on the seed and its number alone. With several ranks every rank makes the same
    rows, so that their network calls go together.

    Args:
        generate: the network.
        sampler: must drive a network of this kind.
        start: masks, and what is given.
        seed: of the noise.
        batch_size: rows a network call.
        progress: called as ``progress(rows done, n)``.

    Raises:
        PluginError: where the sampler leaves a mask or changes a visible token.
    """
    n = len(start)
    for first in range(0, n, batch_size):
        rows = range(first, min(first + batch_size, n))
        state = last(generate(sampler, start[rows.start : rows.stop], rows=rows, seed=seed))
        if progress is not None:
            progress(rows.stop, n)
        yield state


def last(states: Iterator[Generation]) -> Generation:
    """The last of the states."""
    *_, state = states
    return state


def masks(n: int, length: int, vocab: Vocabulary, prompt_ids: Sequence[int] = ()) -> Tensor:
    """``[n, length]`` masks, with the prompt in front of each."""
    start = torch.full((n, length), vocab.mask_id)
    start[:, : len(prompt_ids)] = torch.tensor(list(prompt_ids), dtype=torch.int64)
    return start
