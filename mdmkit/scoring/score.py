"""Scoring answers in one go, in one process: the NELBO of each, and its error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from attrs import evolve, frozen

from mdmkit.errors import MdmkitError
from mdmkit.protocols import EvaluationContext
from mdmkit.scoring.greedy import Greedy
from mdmkit.scoring.questions import Encoded, Question, encode
from mdmkit.scoring.rows import Rows
from mdmkit.scoring.work import Work

Progress = Callable[[int, int], object]
"""Called as ``progress(batches done, batches)``."""

NOT_FINITE = (
    "the network's cross-entropies on the answers are not finite; its weights are damaged, or "
    "training diverged (a smaller learning_rate.peak, or an earlier --checkpoint)"
)

T = TypeVar("T")


@frozen(kw_only=True)
class Score:
    """What the network says of an answer given its context.

    Attributes:
        nats: its NELBO, estimated by all draws; its exact NLL where the objective has one.
        halves: the same by each half of the draws; None of a single draw.
        tokens: n, the tokens of the answer.
        cut: tokens of the context that were cut off on its left.
        drawn: whether the masks are a sample; if not, `nats` has no error.
    """

    nats: float
    halves: tuple[float, float] | None
    tokens: int
    cut: int
    drawn: bool

    @property
    def stderr(self) -> float | None:
        """Of `nats`, from the difference of the halves (one degree of freedom); None of one draw.

        The mean of two independent halves has the variance (difference)²/4.
        """
        return None if self.halves is None else abs(self.halves[0] - self.halves[1]) / 2


@frozen(kw_only=True)
class Together:
    """Rows of tokens that share their random numbers, the answers of one question, say.

    Attributes:
        question: its number, or any other name; the random numbers depend on it and the seed.
        parts: the rows.
    """

    question: int | str
    parts: Sequence[Encoded]


def score_answers(
    context: EvaluationContext,
    questions: Sequence[Question],
    *,
    draws: int = 16,
    enumerate_up_to: int = 5,
    bos: bool = False,
    progress: Progress | None = None,
) -> list[list[Score | None]]:
    """Score the options of each question, as the evaluator ``multiple_choice`` does.

    Only the answer is masked. All masks of an answer of up to `enumerate_up_to` tokens are tried;
    a longer one gets `draws` masks, whose random numbers all answers of a question share. Equal
    seeds (``context.seed``) and numbers of questions give equal scores.

    Args:
        context: the network, from `mdmkit.trained_context`; all work is done by this process.
        questions: their `right` and `premise` are not looked at.
        draws: D.
        enumerate_up_to: tokens.
        bos: whether BOS stands in front of each row.
        progress: is told how far it is.

    Returns:
        The scores of each question's options; None for an answer without tokens, or with more than
        the network was trained on.

    Raises:
        MdmkitError: where the network's cross-entropies are not finite.
        RecipeError: for a denoiser that does not take rows of any length.
    """
    texts = [option for question in questions for option in question.options]
    parts = encode(texts, context.tokenizer, length=context.length, bos=bos)
    by_question = _split(parts, [len(question.options) for question in questions])
    found = score_rows(
        context,
        [
            Together(question=question.number, parts=[part for part in own if part is not None])
            for question, own in zip(questions, by_question, strict=True)
        ],
        draws=draws,
        enumerate_up_to=enumerate_up_to,
        progress=progress,
    )
    answers: list[list[Score | None]] = []
    for own, scores in zip(by_question, found, strict=True):
        left = iter(scores)
        answers.append([None if part is None else next(left) for part in own])
    return answers


def score_rows(
    context: EvaluationContext,
    questions: Sequence[Together],
    *,
    draws: int = 16,
    enumerate_up_to: int = 5,
    progress: Progress | None = None,
) -> list[list[Score]]:
    """Score rows of tokens; see `score_answers`.

    Raises:
        MdmkitError: where the network's cross-entropies are not finite.
        RecipeError: for a denoiser that does not take rows of any length.
    """
    context = alone(context)
    rows = Rows(context=context, draws=draws, enumerate_up_to=enumerate_up_to)
    places = [rows.add(question.question, question.parts) for question in questions]
    work = Work.of(rows.rows, context)
    nats = torch.zeros(len(rows.rows), 3, dtype=torch.float64)
    for index in range(len(work)):
        nats.index_add_(0, *work.score(index))
        if progress is not None:
            progress(index + 1, len(work))
    if not nats.isfinite().all():
        raise MdmkitError(NOT_FINITE)

    def score(part: Encoded, place: int) -> Score:
        one, two, both = nats[place].tolist()
        drawn = rows.rows[place].masks.drawn
        halves = None if drawn and draws == 1 else (one, two)
        return Score(nats=both, halves=halves, tokens=part.count, cut=part.cut, drawn=drawn)

    return [
        [score(part, place) for part, place in zip(question.parts, own, strict=True)]
        for question, own in zip(questions, places, strict=True)
    ]


def filled_in_greedily(
    context: EvaluationContext, parts: Sequence[Encoded], *, progress: Progress | None = None
) -> list[bool]:
    """Whether filling in each answer greedily gives it, as the evaluator ``last_word`` does.

    All tokens of the answer are masked and the most confident is revealed first; a network that
    predicts the next token goes on from the context.

    Raises:
        RecipeError: for a denoiser that does not take rows of any length.
    """
    if not parts:
        return []
    tokens = [torch.tensor(part.tokens) for part in parts]
    greedy = Greedy.of(tokens, [part.count for part in parts], alone(context))
    found = torch.zeros(len(parts), dtype=torch.float64)
    for index in range(len(greedy)):
        rows, right = greedy.right(index)
        found[rows] = right
        if progress is not None:
            progress(index + 1, len(greedy))
    return (found > 0).tolist()


def alone(context: EvaluationContext) -> EvaluationContext:
    """The context of a process that shares the work with no other."""
    return evolve(context, rank=0, world_size=1)


def _split(values: Sequence[T], counts: Sequence[int]) -> list[list[T]]:
    left = iter(values)
    return [[next(left) for _ in range(count)] for count in counts]
