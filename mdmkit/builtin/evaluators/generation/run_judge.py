"""A run of ours as judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional

from mdmkit.builtin.evaluators.generation.judge import require_known
from mdmkit.errors import DataError, RecipeError
from mdmkit.protocols import Denoiser, EvaluationContext, OtherRun
from mdmkit.values import Attention, Batch


@frozen(kw_only=True, eq=False)
class RunJudge:
    """A run that predicts the next token, as `LiveJudge`.

    Every row is filled up to the length that the network was trained on, whatever it needs.
    """

    name: str
    run: OtherRun
    device: torch.device

    @classmethod
    def open(cls, run: str, context: EvaluationContext) -> RunJudge:
        """Open it.

        Raises:
            CheckpointError: where it cannot be read.
            RecipeError: where it predicts something else.
        """
        other = context.open_run(run)
        if other.prediction != "next_token":
            raise RecipeError(
                f'evaluators.<label>.judge.run: "{run}" predicts "{other.prediction}", from which '
                'no exact likelihood of a text follows; expected a run that predicts "next_token" '
                '(objective.use = "autoregressive"), or judge.model'
            )
        return cls(name=f'judge "{run}"', run=other, device=context.device)

    @property
    def context(self) -> int | None:
        """L: its start token and L − 1 tokens predict L."""
        return self.run.length

    @property
    def boundary_id(self) -> int | None:
        """EOS, else BOS."""
        vocab = self.run.tokenizer.vocab
        return vocab.bos_id if vocab.eos_id is None else vocab.eos_id

    @property
    def fill_id(self) -> int:
        """What it puts in front."""
        return self.run.tokenizer.vocab.start_id

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Which run, which weights."""
        return {
            "kind": "run",
            **self.run.provenance,
            "tokenizer_fingerprint": self.run.tokenizer.fingerprint,
            "context": self.context,
        }

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        tokenizer = self.run.tokenizer
        try:
            ids = tokenizer.encode_batch(texts)
        except DataError as error:
            raise DataError(f"{self.name} cannot read the text: {error}") from error
        unknown = getattr(tokenizer, "unknown_id", None)
        require_known(
            self.name, texts, ids, unknown, lambda text: tokenizer.encode_batch([text])[0]
        )
        return ids

    def nll(self, tokens: Tensor, scored: Tensor) -> Tensor:
        """Its objective's cross-entropies, ``[B, L]`` float64."""
        more = (0, self.run.length - tokens.shape[1])
        batch = Batch(tokens=functional.pad(tokens, more, value=self.fill_id).to(self.device))
        mask = functional.pad(scored, more, value=False).to(self.device)

        def nll(denoiser: Denoiser) -> Tensor:
            return self.run.objective.nll(denoiser, batch, mask)

        return self.run.call(nll)[:, : tokens.shape[1]].double().cpu()

    def features(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """``[B, D]``, what its head would read after the text."""
        more = (1, self.run.length - 1 - tokens.shape[1])
        inputs = functional.pad(tokens, more, value=self.fill_id).to(self.device)

        def look(denoiser: Denoiser) -> Tensor:
            h = denoiser(inputs, attention=Attention(causal=True))  # [B, L, D]
            return h[torch.arange(len(h), device=h.device), counts.to(h.device)]

        return self.run.call(look).float().cpu()
