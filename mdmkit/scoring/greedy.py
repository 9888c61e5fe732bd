"""Filling in an answer greedily: is the right one what the network itself would say?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import mask_tokens, masked_logits, scattered, time_at_mask_rate
from mdmkit.errors import RecipeError
from mdmkit.protocols import Denoiser, EvaluationContext
from mdmkit.scoring.work import require_any_length
from mdmkit.values import Attention


@frozen(kw_only=True, eq=False)
class Greedy:
    """Answers to be filled in, in batches of equal length, dealt out to ranks.

    Attributes:
        tokens: ``[L_r]`` int64 of each row, with the right answer at its end.
        counts: n, tokens of each answer.
        batches: the rows of each, all of one length and one n.
        context: of the evaluation.
    """

    tokens: Sequence[Tensor]
    counts: Sequence[int]
    batches: Sequence[Sequence[int]]
    context: EvaluationContext

    @classmethod
    def of(
        cls, tokens: Sequence[Tensor], counts: Sequence[int], context: EvaluationContext
    ) -> Greedy:
        """Batches of at most as many tokens as ``context.batch_size`` blocks of L have.

        Raises:
            RecipeError: for a denoiser that does not take rows of any length, or one that is asked
                in an order.
        """
        require_any_length(context)
        if context.prediction == "any_order":
            raise RecipeError(
                'greedy answers are for networks that predict "masked" or "next_token"; this one '
                'predicts "any_order"'
            )
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, (text, count) in enumerate(zip(tokens, counts, strict=True)):
            alike[count, len(text)].append(row)
        batches = []
        for (_, length), rows in sorted(alike.items(), reverse=True):
            size = max(1, context.batch_size * context.length // length)
            batches += [rows[at : at + size] for at in range(0, len(rows), size)]
        return cls(tokens=tokens, counts=counts, batches=batches, context=context)

    def __len__(self) -> int:
        """Batches a rank: as many on every rank."""
        return math.ceil(len(self.batches) / self.context.world_size)

    def right(self, index: int) -> tuple[Tensor, Tensor]:
        """Do batch `index` of this rank.

        Returns:
            ``[B]`` int64 rows, and ``[B]`` float64: 1 where the whole answer is filled in right;
            zeros where there is no batch left for this rank.
        """
        ranks = self.context.world_size
        together = self.batches[index * ranks : (index + 1) * ranks]
        inside = self.context.rank < len(together)
        rows = together[self.context.rank if inside else 0]
        # every rank calls the network equally often
        steps = max(self.counts[batch[0]] for batch in together)
        tokens = torch.stack([self.tokens[row] for row in rows]).to(self.context.device)
        mask = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
        mask[:, -self.counts[rows[0]] :] = True
        if self.context.prediction == "next_token":
            right = next_tokens_right(tokens, mask, self.context)
        else:
            right = filled_right(tokens, mask, self.context, steps)
        return torch.tensor(rows), right.cpu().double() * float(inside)


def filled_right(tokens: Tensor, mask: Tensor, context: EvaluationContext, steps: int) -> Tensor:
    """``[B]`` bool: whether filling in the masks one at a time gives the tokens under them.

    The most confident is filled in first. A row that is wrong is left alone from there on, unless
    other ranks count on as many calls.

    Args:
        tokens: ``[B, L]`` int64.
        mask: ``[B, L]`` bool.
        context: calls the network.
        steps: at least as many as a row has masks.
    """
    right = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    rows, truth = torch.arange(len(tokens), device=tokens.device), tokens
    tokens, mask = mask_tokens(tokens, mask, context.tokenizer.vocab.mask_id), mask.clone()
    for _ in range(steps):
        log_p, likeliest = _most_likely(tokens, mask, context)
        sure = scattered(log_p.double(), mask).masked_fill(~mask, -torch.inf)
        place = sure.argmax(-1, keepdim=True)  # [B, 1]
        chosen = torch.zeros_like(mask).scatter_(-1, place, True) & mask
        tokens = torch.where(chosen, scattered(likeliest, mask), tokens)
        mask = mask & ~chosen
        wrong = (chosen & (tokens != truth)).any(-1)
        right[rows[wrong]] = False
        if context.world_size == 1:
            rows, truth, tokens, mask = (part[~wrong] for part in (rows, truth, tokens, mask))
            if not len(rows):
                break
    return right


def _most_likely(tokens: Tensor, mask: Tensor, context: EvaluationContext) -> tuple[Tensor, Tensor]:
    """The log-probability and the id of the likeliest token under each mask, ``[N]`` each."""
    mask_id = context.tokenizer.vocab.mask_id
    rate = mask.double().mean(-1)
    t = time_at_mask_rate(context.noise_schedule.alpha, rate).float()

    def call(denoiser: Denoiser) -> tuple[Tensor, Tensor]:
        h = denoiser(tokens, t=t, attention=Attention())
        log_p = masked_logits(denoiser.unembed(h[mask]), mask_id).log_softmax(-1)
        best = log_p.max(-1)
        return best.values, best.indices

    return context.call(call)


def next_tokens_right(tokens: Tensor, mask: Tensor, context: EvaluationContext) -> Tensor:
    """``[B]`` bool: whether going on from the context greedily gives the masked tokens.

    It does where each of them is the likeliest after the true ones before it, which one call
    tells. The text is shifted right, with BOS (else EOS, else the mask) in front.
    """
    vocab = context.tokenizer.vocab
    first = torch.full_like(tokens[:, :1], vocab.start_id)
    shifted = torch.cat([first, tokens[:, :-1]], dim=-1)

    def call(denoiser: Denoiser) -> Tensor:
        h = denoiser(shifted, attention=Attention(causal=True))
        return masked_logits(denoiser.unembed(h[mask]), vocab.mask_id).argmax(-1)

    return (scattered(context.call(call), mask) == tokens).logical_or(~mask).all(-1)
