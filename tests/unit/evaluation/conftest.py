from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.samplers.ancestral import Ancestral
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.draws import StepDraws
from mdmkit.generation import LiveGenerate
from mdmkit.network import InferenceCall, Root
from mdmkit.protocols import EvaluationContext, ObjectiveContext
from mdmkit.testing import run_facts
from mdmkit.values import Batch, Vocabulary

LENGTH, MASK = 4, 4
VOCAB = Vocabulary(size=5, mask_id=MASK)


class TinyNetwork(nn.Module):
    """Random logits that depend on the whole input; in float64, so that batches agree."""

    blocks = ()

    def __init__(self, scale: float) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(3)
        shape = (VOCAB.size * LENGTH, LENGTH * VOCAB.size)
        self.weight = nn.Parameter(scale * torch.randn(*shape, generator=source).double())

    def forward(self, tokens: Tensor, *, t: Any = None, attention: Any = None) -> Tensor:
        seen = nn.functional.one_hot(tokens, VOCAB.size).double().flatten(1)  # [B, L·V]
        return (seen @ self.weight).view(len(tokens), LENGTH, VOCAB.size)

    def unembed(self, h: Tensor) -> Tensor:
        return h


class Blocks:
    """Blocks held in memory."""

    def __init__(self, tokens: Tensor, real: Tensor | None = None) -> None:
        self.tokens, self.real = tokens, real

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> Batch:
        real = None if self.real is None else self.real[rows]
        return Batch(tokens=self.tokens[rows], real=real, rows=rows)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"source": "memory", "blocks": len(self)}


def draws(seed: int, step: int, rows: Tensor, global_rows: int) -> StepDraws:
    return StepDraws(seed=seed, step=step, rows=rows, global_rows=global_rows)


@pytest.fixture
def make_context() -> Callable[..., EvaluationContext]:
    def make(
        tokens: Tensor,
        *,
        network: nn.Module | None = None,
        real: Tensor | None = None,
        exact: bool = False,
        **changes: Any,
    ) -> EvaluationContext:
        parts = ObjectiveContext(
            vocab=VOCAB,
            length=LENGTH,
            noise_schedule=Linear(),
            time_sampler=Uniform(),
            mask_pattern=Independent(),
            loss_weighting=Flat(),
            facts=run_facts(vocab=VOCAB, length=LENGTH),
        )
        options = Autoregressive() if exact else MaskedDiffusion()
        cpu = torch.device("cpu")
        facts: dict[str, Any] = {
            "call": InferenceCall(Root(network or TinyNetwork(1.0)), cpu, "fp32"),
            "objective": options.build(parts),
            "prediction": options.prediction,
            "noise_schedule": parts.noise_schedule,
            "tokenizer": None,
            "sampler": Ancestral(),
            "blocks": lambda _split: Blocks(tokens, real),
            "draws": draws,
            "batch_size": 64,
            "length": LENGTH,
            "device": cpu,
        }
        facts["generate"] = LiveGenerate(
            call=facts["call"],
            vocab=VOCAB,
            noise_schedule=parts.noise_schedule,
            length=LENGTH,
            device=cpu,
        )
        return EvaluationContext(**{**facts, **changes})

    return make
