"""Drives a sampler batch by batch, and holds it to its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mdmkit.draws import RowStreams
from mdmkit.errors import PluginError
from mdmkit.protocols import NetworkCall, NoiseSchedule, Sampler, SamplerContext
from mdmkit.values import Attention, Generation, Vocabulary

Progress = Callable[[int, int], object]
"""Called with (rows done, rows)."""


def final_states(
    call: NetworkCall,
    sampler: Sampler,
    *,
    vocab: Vocabulary,
    noise_schedule: NoiseSchedule,
    length: int,
    n: int,
    seed: int,
    prompt_ids: Sequence[int] = (),
    batch_size: int,
    device: torch.device,
    progress: Progress | None = None,
) -> Iterator[Generation]:
    """Generate `n` rows of `length` tokens, batch by batch; gives the last state of each batch.

    A row depends on the seed and its number alone. With several ranks every rank makes the same
    rows, so that their network calls go together.

    Args:
        call: runs a function of the denoiser.
        sampler: must drive a network of this kind.
        vocab: the token ids.
        noise_schedule: the schedule the network was trained with.
        length: L; more than the prompt has.
        n: how many rows.
        seed: of the noise.
        prompt_ids: the first tokens of every row, which stay.
        batch_size: rows a network call.
        device: where the network lives.
        progress: called as ``progress(rows done, n)``.

    Raises:
        PluginError: where the sampler leaves a mask or changes a visible token.
    """

    def logits(xt: Tensor, t: Tensor | None, attention: Attention) -> Tensor:
        return call(lambda denoiser: denoiser.unembed(denoiser(xt, t=t, attention=attention)))

    prompt = torch.tensor(list(prompt_ids), dtype=torch.int64, device=device)
    for first in range(0, n, batch_size):
        rows = range(first, min(first + batch_size, n))
        noise = RowStreams(seed, rows, length)
        context = SamplerContext(
            logits=logits,
            uniform=_on(noise, device),
            vocab=vocab,
            noise_schedule=noise_schedule,
            device=device,
        )
        start = torch.full((len(rows), length), vocab.mask_id, device=device)
        start[:, : len(prompt)] = prompt
        state = _last(sampler, start, context)
        _require_invariants(sampler, start, state.tokens, vocab.mask_id)
        if progress is not None:
            progress(rows.stop, n)
        yield state


def _on(noise: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    return lambda: noise().to(device)


def _last(sampler: Sampler, tokens: Tensor, context: SamplerContext) -> Generation:
    state = None
    for state in sampler.generate(tokens, context):  # noqa: B007 - the last one is wanted
        pass
    if state is None:
        raise PluginError(f"sampler {type(sampler).__name__}: generate() yielded no state")
    return state


def _require_invariants(sampler: Sampler, start: Tensor, end: Tensor, mask_id: int) -> None:
    name, visible = f"sampler {type(sampler).__name__}", start != mask_id
    if (end == mask_id).any():
        raise PluginError(f"{name}: its last state still holds masks; expected none")
    if not torch.equal(start[visible], end[visible]):
        raise PluginError(f"{name}: it changed tokens that were visible from the start")
