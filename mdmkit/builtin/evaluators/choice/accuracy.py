"""From scores to accuracies, each with its errors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdmkit.values import Measurement

_SAME = 1e-9  # nats, relative: scores that differ by less are sums of the same numbers


def credit(scores: Tensor, right: Tensor) -> Tensor:
    """Whether the right answer has the lowest score; answers that tie share the credit.

    Args:
        scores: ``[Q, C]`` float64, infinite where a question has fewer answers.
        right: ``[Q]`` int64.

    Returns:
        ``[Q]`` float64 in [0, 1].
    """
    lowest = scores.min(-1, keepdim=True).values
    among = scores <= lowest + _SAME * lowest.abs().clamp(min=1)
    won = among.gather(-1, right[:, None])[:, 0]
    return won.double() / among.sum(-1)


def share(found: Tensor, halves: tuple[Tensor, Tensor] | None = None) -> Measurement:
    """A share of questions with its errors.

    The standard error is that of the posterior of a binomial rate under a uniform prior: with x
    of N it is the deviation of Beta(x + 1, N − x + 1), that is √(p(1 − p)/N) for large N, but not
    zero where all or none are right.

    Args:
        found: ``[Q]`` float64 credits.
        halves: the credits by each half of the draws; None where nothing is drawn. From a
            question's two credits c₁, c₂ the variance due to half of the draws is (c₁ − c₂)²/2
            without bias; of all the draws it is at most so much.
    """
    count = len(found)
    a = float(found.sum()) + 1
    b = count + 2 - a
    drawn = None
    if halves is not None:
        drawn = math.sqrt(float((halves[0] - halves[1]).square().sum()) / 2) / count
    return Measurement(
        value=float(found.mean()),
        stderr=math.sqrt(a * b / (a + b + 1)) / (a + b),
        draws_stderr=drawn,
    )


def mean(values: Tensor, *, unit: str, drawn: bool) -> Measurement:
    """The mean over questions with its errors.

    Args:
        values: ``[Q, 3]`` float64 by either half of the draws, and by all, with Q >= 2.
        unit: of the values.
        drawn: whether anything is.
    """
    count, by_question = len(values), values[:, 2]
    apart = values[:, 0] - values[:, 1]
    return Measurement(
        value=float(by_question.mean()),
        stderr=float(by_question.std() / math.sqrt(count)),
        unit=unit,
        # the mean of two independent halves has the variance (difference)²/4
        draws_stderr=float(apart.square().sum().sqrt()) / (2 * count) if drawn else None,
    )


def padded(rows: list[list[float]]) -> Tensor:
    """``[Q, C]`` float64 of lists of different lengths, infinite where one is shorter."""
    longest = max(len(row) for row in rows)
    return torch.tensor(
        [[*row, *[math.inf] * (longest - len(row))] for row in rows], dtype=torch.float64
    )
