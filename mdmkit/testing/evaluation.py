"""What an evaluator is shown by the checks: a small random network on random text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.draws import StepDraws
from mdmkit.generation import LiveGenerate
from mdmkit.network import LiveGradient, Root
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, OtherRun, Split
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import VOCAB, HashDenoiser, objective_context, random_batch
from mdmkit.values import Batch, Vocabulary

T = TypeVar("T")
_LENGTH = 12


@frozen
class _RandomBlocks:
    """A block source of random text."""

    batches: Batch

    def __len__(self) -> int:
        return len(self.batches.tokens)

    def batch(self, rows: Tensor) -> Batch:
        real = self.batches.real
        return Batch(
            tokens=self.batches.tokens[rows], real=None if real is None else real[rows], rows=rows
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {"source": "random tokens", "blocks": len(self)}


@frozen
class _RandomDocuments(_RandomBlocks):
    """The same, of documents that are three blocks long."""

    def documents(self, rows: Tensor) -> Tensor:
        return rows // 3


@frozen
class _LetterTokenizer:
    """Ids as letters: a tokenizer that needs no training."""

    vocab: Vocabulary = VOCAB
    fingerprint: str = "0" * 64

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        size = self.vocab.size - 1
        return [[ord(letter) % size for letter in text] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + i) for i in ids)


def evaluation_context(
    rank: int = 0, world_size: int = 1, *, documents: bool = True
) -> EvaluationContext:
    """A small random network on random text, masked diffusion, without processes.

    Whatever other run it is asked for, the same network comes, as one that predicts the next token.

    Args:
        rank, world_size: this process, and how many there are said to be.
        documents: whether the block source knows which document a block begins in.
    """
    from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
    from mdmkit.builtin.samplers.ancestral import Ancestral

    denoiser = HashDenoiser(VOCAB.size, length=_LENGTH)

    def call(function: Callable[[Denoiser], T]) -> T:
        with torch.no_grad():
            result = function(cast("Denoiser", denoiser))
        parts = result if isinstance(result, tuple) else (result,)
        Contract("an evaluator's function of the denoiser").require(
            all(isinstance(part, torch.Tensor) for part in parts),
            "context.call is given a function that returns a tensor or a tuple of tensors, or a "
            "sharded network would not see them",
            f"{type(result).__name__}",
        )
        return result

    def draws(seed: int, step: int, rows: Tensor, global_rows: int) -> StepDraws:
        return StepDraws(seed=seed, step=step, rows=rows, global_rows=global_rows)

    def open_run(run: str) -> OtherRun:
        return OtherRun(
            call=call,
            objective=Autoregressive().build(parts),
            tokenizer=_LetterTokenizer(),
            prediction="next_token",
            length=_LENGTH,
            provenance={"run": {"name": run}},
        )

    def blocks(split: Split) -> BlockSource:
        source = _RandomDocuments if documents else _RandomBlocks
        return source(random_batch(10, _LENGTH, seed=len(split)))

    parts = evolve(objective_context(), length=_LENGTH)
    return EvaluationContext(
        call=call,
        objective=MaskedDiffusion().build(parts),
        prediction="masked",
        noise_schedule=parts.noise_schedule,
        tokenizer=_LetterTokenizer(),
        sampler=Ancestral(steps=4),
        blocks=blocks,
        draws=draws,
        generate=LiveGenerate(
            call=call,
            vocab=VOCAB,
            noise_schedule=parts.noise_schedule,
            length=_LENGTH,
            device=torch.device("cpu"),
        ),
        batch_size=4,
        length=_LENGTH,
        device=torch.device("cpu"),
        rank=rank,
        world_size=world_size,
        open_run=open_run,
        training=parts,
        gradient=LiveGradient(Root(denoiser), torch.device("cpu"), "fp32"),
    )
