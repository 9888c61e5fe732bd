"""Samplers that show the network one shape have it compiled once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.samplers import Ancestral, Cached
from mdmkit.builtin.schedules import Linear
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.testing.networks import randomize
from mdmkit.training.parallel import blocks_of, compile_blocks
from mdmkit.values import Generation, Vocabulary

VOCAB = Vocabulary(size=7, mask_id=6)
CPU = torch.device("cpu")


@pytest.mark.parametrize("sampler", [Ancestral(steps=5), Cached(steps=20, rows=False)])
def test_a_network_is_compiled_once(sampler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, plain = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: plain(function, backend=counter))
    denoiser = Dit(width=8, depth=3, heads=2, adaln=False)
    root = Root(denoiser.build(VOCAB))
    randomize(root)
    generate = LiveGenerate(
        call=InferenceCall(root, CPU, "fp32"),
        vocab=VOCAB,
        noise_schedule=Linear(),
        length=6,
        device=CPU,
    )

    start = torch.full((4, 6), VOCAB.mask_id)

    def texts() -> torch.Tensor:
        return Generation.last_of(generate(sampler, start, rows=range(4), seed=0)).tokens

    expected = texts()
    torch._dynamo.reset()
    compile_blocks(blocks_of(root.denoiser))
    assert torch.equal(texts(), expected)
    assert counter.frame_count == 1  # for all three blocks and every step
