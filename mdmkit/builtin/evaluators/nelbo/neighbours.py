"""What a token costs by its neighbours' counts: the raw material of the control variate."""

from __future__ import annotations

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.protocols import BlockSource
from mdmkit.values import Batch

TOKENS = 2_000_000
"""So many tokens of the split are counted at most; more would sharpen little."""

_PRIOR = 5.0
_ROWS = 1024
_LEFT = 2**31  # a pair of ids as one number: left·2^31 + right


@frozen(kw_only=True, eq=False)
class Counts:
    """How often each of some codes was seen.

    Attributes:
        codes: ``[C]`` int64, rising.
        counts: ``[C]`` float64.
    """

    codes: Tensor
    counts: Tensor

    @classmethod
    def of(cls, seen: Tensor) -> Counts:
        """Count the codes ``seen [M]`` int64."""
        codes, counts = np.unique(seen.numpy(), return_counts=True)
        return cls(codes=torch.from_numpy(codes), counts=torch.from_numpy(counts).double())

    def __call__(self, wanted: Tensor) -> Tensor:
        """The counts of `wanted`, of its shape; 0 for what was not seen."""
        if not len(self.codes):
            return torch.zeros(wanted.shape, dtype=torch.float64)
        place = torch.searchsorted(self.codes, wanted.contiguous()).clamp(max=len(self.codes) - 1)
        return self.counts[place].where(self.codes[place] == wanted, 0.0)


@frozen(kw_only=True, eq=False)
class NeighbourCounts:
    """Counts of single tokens and of adjacent pairs in a part of a split.

    Attributes:
        single: of tokens.
        pairs: of adjacent tokens, as left·2^31 + right.
        total: tokens counted.
    """

    single: Counts
    pairs: Counts
    total: float

    def costs(self, batch: Batch) -> Tensor:
        """Nats of each token by itself, after its left and before its right neighbour.

        The pair probabilities are shrunk towards the token's own share, and a token's own
        occurrence is taken out of its counts: seen once means not seen elsewhere.

        Returns:
            ``[B, L, 3]`` float64: −log p(token), −log p(token | left), −log p(token | right);
            without a neighbour on that side, the first stands in.
        """
        tokens, real = batch.tokens, _real(batch)
        count = self.single(tokens)
        kinds = len(self.single.codes) + 1
        share = (count - 1).clamp(min=0).add(1) / (self.total + kinds)  # [B, L]
        together = (self.pairs(tokens[:, :-1] * _LEFT + tokens[:, 1:]) - 1).clamp(min=0)
        others = (count - 1).clamp(min=0)

        def shrunk(token: slice, given: slice) -> Tensor:
            found = (together + _PRIOR * share[:, token]) / (others[:, given] + _PRIOR)
            return found.where(real[:, 1:] & real[:, :-1], share[:, token])

        first, last = slice(None, -1), slice(1, None)
        left, right = share.clone(), share.clone()
        left[:, 1:], right[:, :-1] = shrunk(last, first), shrunk(first, last)
        return -torch.stack([share, left, right], -1).log()


def count_neighbours(source: BlockSource, tokens: int = TOKENS) -> NeighbourCounts:
    """Count tokens and adjacent pairs in evenly spaced blocks of `source`.

    The same on every rank, since it is a function of the text alone.

    Args:
        source: the blocks of a split.
        tokens: how many to look at, about.
    """
    length = source.batch(torch.zeros(1, dtype=torch.int64)).tokens.shape[1]
    wanted = min(len(source), max(tokens // length, 1))
    rows = torch.arange(wanted) * len(source) // wanted
    single, pairs = [], []
    for start in range(0, wanted, _ROWS):
        batch = source.batch(rows[start : start + _ROWS])
        tokens_here, real = batch.tokens, _real(batch)
        single.append(tokens_here[real])
        adjacent = real[:, 1:] & real[:, :-1]
        pairs.append((tokens_here[:, :-1] * _LEFT + tokens_here[:, 1:])[adjacent])
    seen = torch.cat(single)
    return NeighbourCounts(
        single=Counts.of(seen), pairs=Counts.of(torch.cat(pairs)), total=float(len(seen))
    )


def _real(batch: Batch) -> Tensor:
    return batch.tokens >= 0 if batch.real is None else batch.real
