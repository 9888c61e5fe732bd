"""The likelihood of given texts: what the harness asks for most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from mdmkit.protocols import EvaluationContext
from mdmkit.scoring import (
    Encoded,
    Option,
    Score,
    Together,
    encode,
    filled_in_greedily,
    score_rows,
    windows,
)
from mdmkit_lm_eval.protocol import Protocol

Report = Callable[[str, int, int], object]
"""Called with (what, done, of how many)."""

_ANY_LENGTH = 2**40


@frozen(kw_only=True)
class Key:
    """Which request it is.

    Attributes:
        task: its name.
        doc: the number of the document in the task; requests of a document share their noise.
        index: of the request among those of the document.
    """

    task: str
    doc: int
    index: int


@frozen(kw_only=True)
class Asked:
    """A continuation whose likelihood given a context is wanted."""

    key: Key
    context: str
    continuation: str


@frozen(kw_only=True)
class Answer:
    """The NELBO of a continuation.

    Attributes:
        nats: by all draws; the exact NLL where the run has one.
        halves: by each half of the draws.
        stderr: of `nats`, due to the draws.
        tokens: scored.
        rows: of tokens that it took; more than one where it does not fit into one.
        drawn: whether any of their masks are a sample.
        greedy: whether filling it in greedily gives it; None where nobody looked.
    """

    nats: float
    halves: tuple[float, float]
    stderr: float
    tokens: int
    rows: int
    drawn: bool
    greedy: bool | None


def likelihoods(
    context: EvaluationContext,
    asked: Sequence[Asked],
    protocol: Protocol,
    *,
    greedy: bool,
    report: Report,
) -> list[Answer]:
    """Score the continuations.

    A continuation of more tokens than fit is scored in windows, each token once, each window given
    what it shows of the text before.

    Args:
        context: the network.
        asked: the requests, in any order.
        protocol: how.
        greedy: whether to look if filling in greedily gives the continuation.
        report: is told how far it is.
    """
    parts = _in_rows(context, asked, protocol)
    scores = _scored(context, asked, parts, protocol, report)
    greedily = [True] * len(asked) if not greedy else _greedily(context, parts, report)
    return [
        Answer(
            nats=math.fsum(score.nats for score in own),
            halves=_halves(own),
            stderr=math.hypot(*(score.stderr or 0.0 for score in own)),
            tokens=sum(score.tokens for score in own),
            rows=len(own),
            drawn=any(score.drawn for score in own),
            greedy=right if greedy else None,
        )
        for own, right in zip(scores, greedily, strict=True)
    ]


def _in_rows(
    context: EvaluationContext, asked: Sequence[Asked], protocol: Protocol
) -> list[list[Encoded]]:
    """The rows of each continuation; none where it has no tokens."""
    texts = [Option(context=one.context, answer=one.continuation) for one in asked]
    whole = encode(texts, context.tokenizer, length=_ANY_LENGTH, bos=False)
    bos_id = context.tokenizer.vocab.bos_id
    first = [bos_id] if protocol.bos and bos_id is not None else []
    return [
        []
        if one is None
        else windows(
            one.tokens, given=len(one.tokens) - one.count, length=context.length, first=first
        )
        for one in whole
    ]


def _scored(
    context: EvaluationContext,
    asked: Sequence[Asked],
    parts: Sequence[Sequence[Encoded]],
    protocol: Protocol,
    report: Report,
) -> list[list[Score]]:
    """The scores of the rows of each continuation.

    Continuations of one document that fit into a row share their random numbers, which are those
    of the evaluator ``multiple_choice`` for the question of that number. Windows have their own.
    """
    of_document: dict[tuple[str, int], list[int]] = {}
    groups, places = [], []
    for place, (one, own) in enumerate(zip(asked, parts, strict=True)):
        if len(own) == 1:
            of_document.setdefault((one.key.task, one.key.doc), []).append(place)
        for number, part in enumerate(own if len(own) > 1 else ()):
            name = f"{one.key.doc}, request {one.key.index}, window {number}"
            groups.append(Together(question=name, parts=[part]))
            places.append([place])
    for (_, doc), of in of_document.items():
        groups.append(Together(question=doc, parts=[parts[place][0] for place in of]))
        places.append(of)
    found = score_rows(
        context,
        groups,
        draws=protocol.draws,
        enumerate_up_to=protocol.enumerate,
        progress=lambda done, total: report("texts scored", done, total),
    )
    scores: list[list[Score]] = [[] for _ in asked]
    for of, those in zip(places, found, strict=True):
        for place, score in zip(of, those, strict=True):
            scores[place].append(score)
    return scores


def _greedily(
    context: EvaluationContext, parts: Sequence[Sequence[Encoded]], report: Report
) -> list[bool]:
    """Whether all rows of each continuation are what is filled in greedily."""
    rows = list(dict.fromkeys(part for own in parts for part in own))
    right = filled_in_greedily(
        context, rows, progress=lambda done, total: report("texts filled in", done, total)
    )
    by_row = dict(zip(rows, right, strict=True))
    return [all(by_row[part] for part in own) for own in parts]


def _halves(scores: Sequence[Score]) -> tuple[float, float]:
    halves = [score.halves or (score.nats, score.nats) for score in scores]
    return math.fsum(one for one, _ in halves), math.fsum(two for _, two in halves)
