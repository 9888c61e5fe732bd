"""Which masks of an answer are tried, and what each counts: the NELBO of an answer.

Only the answer's n tokens are ever masked; its context is always visible. With k of them masked
the any-order loss is (n/k)·(mean over all k-subsets of the summed cross-entropy), and

    NELBO(answer | context) = mean over k = 1..n of that

(arXiv 2110.02037, eq. 5, with the context as what is known from the start). For one token it is
the exact NLL.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import uniform_subset
from mdmkit.protocols import EvaluationContext


@frozen(kw_only=True, eq=False)
class Masks:
    """The masks of one answer.

    Attributes:
        masks: ``[M, n]`` bool, no two alike.
        weights: ``[M, 3]`` float64: Σ_m weights[m, c]·(summed cross-entropy under mask m) is an
            estimate of the NELBO, by either half of the draws and by all of them. The three are
            equal where nothing is drawn.
        drawn: whether the masks are a sample.
    """

    masks: Tensor
    weights: Tensor
    drawn: bool

    def __len__(self) -> int:
        """M, the network's rows that they cost."""
        return len(self.masks)


@lru_cache
def whole(count: int) -> Masks:
    """One mask over all of `count` tokens: for an objective that is exact."""
    return Masks(
        masks=torch.ones(1, count, dtype=torch.bool),
        weights=torch.ones(1, 3, dtype=torch.float64),
        drawn=False,
    )


@lru_cache
def all_masks(count: int) -> Masks:
    """All 2^n − 1 masks of n = `count` tokens; the NELBO is then exact.

    A mask of k tokens has the weight (1/n)·(n/k)/C(n, k) = 1/(k·C(n, k)).
    """
    chosen = list(itertools.product((False, True), repeat=count))[1:]
    sizes = [sum(mask) for mask in chosen]
    weights = torch.tensor([1 / (k * math.comb(count, k)) for k in sizes], dtype=torch.float64)
    return Masks(masks=torch.tensor(chosen), weights=torch.stack([weights] * 3, dim=1), drawn=False)


@frozen(kw_only=True, eq=False)
class QuestionDraws:
    """The random numbers of one question, shared by all its answers (common random numbers).

    Attributes:
        count: ``[D]`` float64 in (0, 1), one in each of D strata: how much of an answer is masked.
        order: ``[D, N]`` float32: the first to be masked are the positions with the lowest.
        half: ``[D]`` int64, 0 or 1. Neighbouring strata are paired, and each half has one of a
            pair, at random which, so that it is an unbiased, stratified estimate by itself. Of an
            odd number one, at random, is in neither (2).
    """

    count: Tensor
    order: Tensor
    half: Tensor

    @classmethod
    def of(
        cls, context: EvaluationContext, question: int | str, draws: int, longest: int
    ) -> QuestionDraws:
        """Those of a question: a function of the seed and its number alone.

        Args:
            context: gives the source of random numbers.
            question: its number in the data set, or any other name.
            draws: D.
            longest: N, tokens of the question's longest answer.
        """
        rows = torch.arange(draws)
        numbers = context.draws(context.seed, 0, rows, draws)
        name = f"choice/question {question}"
        coin = numbers.uniform(f"{name}/half")
        half = torch.full((draws,), 2)
        paired = rows[rows != (coin[-1] * draws).long()] if draws % 2 else rows
        first = (coin[: draws // 2] < 0.5).long()
        half[paired] = torch.stack([first, 1 - first], dim=1).flatten()
        return cls(
            count=numbers.strata(f"{name}/count", "jittered"),
            order=numbers.uniform(f"{name}/order", longest),
            half=half,
        )

    def masks(self, count: int) -> Masks:
        """D masks of an answer of n = `count` tokens, those that are alike made one.

        Of draw d ⌈n·count_d⌉ tokens are masked, so each number of 1..n is equally likely; its
        summed cross-entropy counts n/k.
        """
        draws = len(self.count)
        sizes = (self.count * count).ceil().long().clamp(1, count)
        everywhere = torch.ones(draws, count, dtype=torch.bool)
        masks = uniform_subset(self.order[:, :count], sizes, everywhere)
        member = torch.stack([self.half == 0, self.half == 1, self.half >= 0], dim=1).double()
        weights = member / member.sum(0).clamp(min=1) * (count / sizes.double())[:, None]
        places: dict[bytes, int] = {}
        place = [places.setdefault(mask.tobytes(), len(places)) for mask in masks.numpy()]
        index = torch.tensor(place)
        first = torch.tensor([place.index(i) for i in range(len(places))])
        return Masks(
            masks=masks[first],
            weights=torch.zeros(len(places), 3, dtype=torch.float64).index_add_(0, index, weights),
            drawn=True,
        )
