"""Samplers on a CUDA device make the text of the CPU; skipped where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.samplers import (
    Ancestral,
    AutoregressiveSampler,
    Cached,
    Confidence,
    FirstHitting,
    Remask,
    SemiAutoregressive,
)
from mdmkit.builtin.schedules import Cosine
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.testing.networks import randomize
from mdmkit.values import Generation, Vocabulary

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

VOCAB = Vocabulary(size=12, mask_id=11, bos_id=0, eos_id=1, pad_id=2)
LENGTH = 8

SAMPLERS = [
    Ancestral(steps=5, temperature=0.7, top_p=0.9, top_k=6),
    Ancestral(steps=3, draws="float32"),
    Cached(steps=9, min_steps=4, eos="stop"),
    FirstHitting(tokens_per_call=2),
    *(Confidence(steps=3, score=score) for score in ("probability", "drawn", "margin", "entropy")),
    Confidence(steps=3, noise=0.5, temperature=0),
    Confidence(rule="threshold", threshold=0.9),
    Confidence(rule="entropy_bounded", score="margin", gamma=1.0),
    *(Remask(steps=6, strategy=how, eta=0.3) for how in ("cap", "rescale", "conf", "loop")),
    Remask(steps=4, eos="stop"),
    SemiAutoregressive(sampler=Cached(steps=3, eos="stop"), block_length=3),
    SemiAutoregressive(sampler=Confidence(steps=2), block_length=5),
    AutoregressiveSampler(eos="stop"),
    AutoregressiveSampler(cache=False, draws="float32"),
]


def generated(sampler: Any, length: int, device: torch.device) -> list[Generation]:
    denoiser = Dit(
        width=16,
        depth=2,
        heads=2,
        conditioning_width=8,
        time_conditioning=sampler.prediction == "masked",
    )
    torch.manual_seed(0)
    root = Root(denoiser.build(VOCAB))
    randomize(root)
    generate = LiveGenerate(
        call=InferenceCall(root.to(device).eval(), device, "fp32"),
        vocab=VOCAB,
        noise_schedule=Cosine(),
        length=LENGTH,
        device=device,
        supports=denoiser.supports,
    )
    start = torch.full((4, length), VOCAB.mask_id)
    start[0, 1], start[3, 6] = 5, 9  # among masks alone the network is as sure of one as of another
    start[1, 2:5] = 7
    start[2] = 4  # nothing to do in this row
    return list(generate(sampler, start, rows=range(4), seed=0))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_the_text_is_that_of_the_cpu(sampler: Any) -> None:
    length = 2 * LENGTH + 1 if getattr(sampler, "any_length", False) else LENGTH
    on_gpu, on_cpu = (generated(sampler, length, torch.device(name)) for name in ("cuda", "cpu"))
    assert len(on_gpu) == len(on_cpu)
    for here, there in zip(on_gpu, on_cpu, strict=True):
        assert (here.step, here.network_evaluations) == (there.step, there.network_evaluations)
        assert here.tokens.is_cuda
        assert torch.equal(here.tokens.cpu(), there.tokens)
        assert_close(here.log_p, there.log_p)


def assert_close(here: Tensor | None, there: Tensor | None) -> None:
    assert here is not None
    assert there is not None
    torch.testing.assert_close(here.cpu(), there, rtol=0, atol=1e-4)
