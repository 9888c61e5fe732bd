"""Rows to be scored, in batches of equal length, dealt out to ranks.

Rows of one batch have one length, so there is no padding: every denoiser that takes rows of any
length can be called, and no position is computed for nothing. An answer brings several masks, all
of one length, so batches are full all the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.errors import RecipeError
from mdmkit.protocols import Denoiser, EvaluationContext
from mdmkit.scoring.masks import Masks
from mdmkit.values import Batch


@frozen(kw_only=True, eq=False)
class ScoredRow:
    """A context and an answer, and the masks under which the answer is scored.

    Attributes:
        tokens: ``[L_r]`` int64; the last of them are the answer.
        masks: of the answer.
    """

    tokens: Tensor
    masks: Masks


@frozen(kw_only=True, eq=False)
class Calls:
    """One network call: which masks of which rows. All rows have one length.

    Attributes:
        rows, masks: ``[B]`` int64.
    """

    rows: Tensor
    masks: Tensor


@frozen(kw_only=True, eq=False)
class Work:
    """All rows, and who does what of them when; the same batches whatever the number of ranks.

    Attributes:
        rows: what is scored.
        calls: the batches.
        context: of the evaluation.
    """

    rows: Sequence[ScoredRow]
    calls: Sequence[Calls]
    context: EvaluationContext

    @classmethod
    def of(cls, rows: Sequence[ScoredRow], context: EvaluationContext) -> Work:
        """Batches of at most as many tokens as ``context.batch_size`` blocks of L have.

        Raises:
            RecipeError: for a denoiser that does not take rows of any length.
        """
        require_any_length(context)
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            by_length[len(row.tokens)].append(number)
        calls = []
        for length in sorted(by_length, reverse=True):  # what may not fit comes first
            size = max(1, context.batch_size * context.length // length)
            calls += list(_batches(rows, by_length[length], size))
        return cls(rows=rows, calls=calls, context=context)

    def __len__(self) -> int:
        """Batches a rank: as many on every rank."""
        return math.ceil(len(self.calls) / self.context.world_size)

    @property
    def network_rows(self) -> int:
        """How many rows the network is called on."""
        return sum(len(row.masks) for row in self.rows)

    def score(self, index: int) -> tuple[Tensor, Tensor]:
        """Do batch `index` of this rank.

        Returns:
            ``[B]`` int64 rows and ``[B, 3]`` float64 nats to be added to them, by either half
            of the draws and by all; zeros where there is no batch left for this rank.
        """
        place = index * self.context.world_size + self.context.rank
        inside = place < len(self.calls)
        calls = self.calls[place if inside else 0]  # every rank calls the network equally often
        chosen = calls.rows.tolist()
        tokens = torch.stack([self.rows[row].tokens for row in chosen])
        mask, weights = torch.zeros(tokens.shape, dtype=torch.bool), []
        for i, (row, number) in enumerate(zip(chosen, calls.masks.tolist(), strict=True)):
            masks = self.rows[row].masks
            mask[i, -masks.masks.shape[1] :] = masks.masks[number]
            weights.append(masks.weights[number])
        nats = self._nats(tokens, mask)
        return calls.rows, nats[:, None] * torch.stack(weights) * float(inside)

    def _nats(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The summed cross-entropy of each row, ``[B]`` float64."""
        device, objective = self.context.device, self.context.objective
        # All tokens count as maskable, the context, too: the mask rate that a denoiser with a
        # time is told is then that of the whole row, as in training.
        batch, mask = Batch(tokens=tokens.to(device)), mask.to(device)

        def nll(denoiser: Denoiser) -> Tensor:
            return objective.nll(denoiser, batch, mask)

        return self.context.call(nll).double().sum(-1).cpu()


def require_any_length(context: EvaluationContext) -> None:
    """Refuse a denoiser that takes rows of some lengths only.

    Raises:
        RecipeError: naming its multiple.
    """
    if context.length_multiple > 1:
        raise RecipeError(
            "answers and texts are scored in rows of any length, but the run's denoiser needs a "
            f"multiple of {context.length_multiple} tokens; expected one whose length_multiple is 1"
        )


def _batches(rows: Sequence[ScoredRow], wanted: Iterable[int], size: int) -> Iterator[Calls]:
    pairs = [(row, mask) for row in wanted for mask in range(len(rows[row].masks))]
    for part in torch.split(torch.tensor(pairs), size):  # of [N, 2]
        yield Calls(rows=part[:, 0], masks=part[:, 1])
