from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.denoisers.transformer import Transformer
from mdmkit.builtin.samplers.autoregressive import AutoregressiveSampler
from mdmkit.builtin.schedules import Linear
from mdmkit.diffusion import masked_logits
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.testing.networks import randomize
from mdmkit.values import Attention, Generation, Vocabulary

LENGTH = 7  # L of the small networks below


def network_of(denoiser: Any, length: int = LENGTH, **changes: Any) -> LiveGenerate:
    """A random network, causal, over an alphabet of 5 with EOS."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        net = denoiser.build(SMALL)
    randomize(net)
    facts = {"vocab": SMALL, "noise_schedule": Linear(), "device": torch.device("cpu"),
             "length": length, "supports": denoiser.supports}  # fmt: skip
    call = InferenceCall(Root(net), torch.device("cpu"), "fp32")
    return LiveGenerate(call=call, **{**facts, **changes})


SMALL = Vocabulary(size=6, mask_id=5, bos_id=0, eos_id=1)
DENOISERS = [
    Dit(width=8, depth=2, heads=2, adaln=False),
    Transformer(width=8, depth=2, heads=2, mlp_multiple=4),
]


@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize("room", [LENGTH, 4])
def test_a_cache_changes_the_work_and_not_the_text(denoiser, room):
    start = torch.full((6, LENGTH), SMALL.mask_id)
    start[:3, :2] = 3  # a prompt in half of the rows
    start[:, 4] = 2  # and a token that all rows have
    found = []
    for cached in (True, False):
        seen = []
        watched = watching(network_of(denoiser, room), seen)
        found.append(generated(watched, AutoregressiveSampler(cache=cached), start))
        assert found[-1].network_evaluations == LENGTH - 1  # none for the common token
        assert max(seen) <= room
        if room == LENGTH:  # with it, every position is shown once
            wanted = [1, 2, 3, 4, 6, 7]
            assert seen == ([1, 1, 1, 1, 2, 1] if cached else wanted)
    assert torch.equal(found[0].tokens, found[1].tokens)
    assert torch.allclose(found[0].log_p, found[1].log_p, atol=1e-5)
    assert len(found[0].tokens.unique(dim=0)) > 3


def watching(generate: LiveGenerate, seen: list[int]) -> LiveGenerate:
    plain = generate.call
    return evolve(generate, call=lambda function: plain(lambda net: function(Watched(net, seen))))


class Watched:
    """Notes how many positions the network is shown at a time."""

    def __init__(self, net: Any, seen: list[int]) -> None:
        self.net, self.seen = net, seen
        self.unembed, self.new_cache = net.unembed, net.new_cache

    def __call__(self, tokens: Tensor, **how: Any) -> Tensor:
        self.seen.append(tokens.shape[1])
        return self.net(tokens, **how)


def generated(generate: Any, sampler: Any, start: Tensor) -> Any:
    return Generation.last_of(generate(sampler, start, rows=range(len(start)), seed=3))


def test_the_log_probability_of_a_text_is_that_of_its_tokens():
    start = torch.full((5, LENGTH), SMALL.mask_id)
    generate = network_of(DENOISERS[0])
    found = generated(generate, AutoregressiveSampler(temperature=0.7, top_k=3), start)
    shifted = torch.cat([torch.zeros_like(start[:, :1]), found.tokens[:, :-1]], dim=-1)
    logits = generate._logits(shifted, None, Attention(causal=True)).double()
    log_p = masked_logits(logits, SMALL.mask_id).log_softmax(-1)
    expected = log_p.gather(-1, found.tokens[..., None])[..., 0]
    assert torch.allclose(found.log_p, expected, atol=1e-5)


def test_past_its_length_a_network_goes_on_from_its_last_half():
    hidden = torch.full((2, 9), SMALL.mask_id)
    states = network_of(DENOISERS[0], 4)(AutoregressiveSampler(), hidden, rows=range(2), seed=0)
    *_, state = states
    generate = network_of(DENOISERS[0], 4)
    # its four inputs are full at positions 4, 6 and 8, where it begins anew two tokens earlier
    for place, start in {3: 0, 4: 2, 5: 2, 6: 4, 7: 4, 8: 6}.items():
        first = torch.zeros(2, 1, dtype=torch.int64)
        context = torch.cat([first, state.tokens[:, start:place]], dim=-1)
        logits = generate._logits(context, None, Attention(causal=True))[:, -1].double()
        log_p = masked_logits(logits, SMALL.mask_id).log_softmax(-1)
        expected = log_p.gather(-1, state.tokens[:, place : place + 1])[:, 0]
        assert torch.allclose(state.log_p[:, place], expected, atol=1e-5)


def test_a_text_stops_at_the_eos_that_was_generated():
    start = torch.full((40, LENGTH), SMALL.mask_id)
    start[:, 0] = SMALL.eos_id  # a given one ends nothing
    start[:, 5] = 3
    generate = network_of(DENOISERS[0])
    kept = generated(generate, AutoregressiveSampler(), start).tokens
    found = generated(generate, AutoregressiveSampler(eos="stop"), start)
    stopped = 0
    for before, after, log_p in zip(kept, found.tokens, found.log_p, strict=True):
        ends = (before[1:] == SMALL.eos_id).nonzero()[:, 0] + 1
        end = int(ends[0]) if len(ends) else LENGTH - 1
        stopped += end < 5
        assert torch.equal(after[: end + 1], before[: end + 1])
        behind = torch.tensor([SMALL.eos_id] * LENGTH)
        behind[5] = 3
        assert torch.equal(after[end + 1 :], behind[end + 1 :])
        assert not log_p[end + 1 :].any()
    assert stopped > 3
