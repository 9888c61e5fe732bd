"""Next-token prediction: the baseline, on the same network."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import scattered
from mdmkit.head import cross_entropies, weighted_loss
from mdmkit.protocols import Denoiser, Draws, ObjectiveContext, Prediction
from mdmkit.values import Batch, Bound, Loss, Noised


@frozen(kw_only=True)
class Autoregressive:
    """Next-token prediction with causal attention: the baseline, on the same network and data.

    The input is the text shifted right by one, with BOS (else EOS, else the mask) in front, so
    the first token is predicted, too, and the NLL covers the same tokens as the NELBO.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"causal"})
    prediction: ClassVar[Prediction] = "next_token"
    shifts_text: ClassVar[bool] = True

    def build(self, context: ObjectiveContext) -> LiveAutoregressive:
        """The live objective."""
        return LiveAutoregressive(context=context)


@frozen(kw_only=True, eq=False)
class LiveAutoregressive:
    """`Autoregressive` for one vocabulary."""

    context: ObjectiveContext
    exact: ClassVar[bool] = True
    group: ClassVar[int] = 1

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:  # noqa: ARG002 - nothing is random
        """Shift the text; every scored token is in the loss with weight 1."""
        scored = batch.scored()
        return Noised(
            inputs=shift_right(batch, self.context.vocab.start_id),
            targets=batch.tokens,
            in_loss=scored,
            weights=torch.ones(scored.shape),
            t=None,
            attention=batch.attention(causal=True),
            denominator=scored.sum().double(),
        )

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The sum of the next-token cross-entropies."""
        return weighted_loss(denoiser, noised, self.context.vocab.mask_id)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:  # noqa: ARG002 - nothing is random
        """The exact NLL of each row in nats."""
        scored = batch.scored()
        return Bound(nats=self.nll(denoiser, batch, scored).sum(-1), tokens=scored.sum(-1))

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The next-token cross-entropies of the tokens under ``mask``, ``[B, L]``."""
        mask = mask if batch.real is None else mask & batch.real
        shifted = shift_right(batch, self.context.vocab.start_id)
        h = denoiser(shifted, attention=batch.attention(causal=True))
        nll = cross_entropies(denoiser, h[mask], batch.tokens[mask], self.context.vocab.mask_id)
        return scattered(nll.double(), mask)


def shift_right(batch: Batch, first: int) -> Tensor:
    """Inputs of next-token prediction: the tokens ``[B, L]`` with `first` in front, the last gone.

    Where attention stays inside documents, `first` stands at the beginning of each, so that none
    is told the last token of the one before it.
    """
    tokens, documents = batch.tokens, batch.document_ids
    shifted = torch.cat([torch.full_like(tokens[:, :1], first), tokens[:, :-1]], dim=-1)
    if documents is not None:
        shifted[:, 1:] = shifted[:, 1:].where(documents[:, 1:] == documents[:, :-1], first)
    return shifted
