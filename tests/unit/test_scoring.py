from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from attrs import evolve

from mdmkit import MdmkitError, RecipeError
from mdmkit.builtin.evaluators.choice.answers import Answers
from mdmkit.builtin.objectives import Autoregressive
from mdmkit.protocols import Denoiser
from mdmkit.scoring import (
    Encoded,
    Option,
    Question,
    Together,
    encode,
    filled_in_greedily,
    score_answers,
    score_rows,
    windows,
)
from mdmkit.scoring.greedy import Greedy
from mdmkit.testing import evaluation_context, objective_context
from mdmkit.testing.facts import VOCAB, HashDenoiser

LENGTH = 16
NETWORK = HashDenoiser(VOCAB.size, length=2 * LENGTH).double()


def make_context(network: Any = NETWORK, *, exact: bool = False, **changes: Any) -> Any:
    def call(function: Callable[[Denoiser], Any]) -> Any:
        with torch.no_grad():
            return function(network)

    facts: dict[str, Any] = {"call": call, "length": LENGTH, "batch_size": 64, **changes}
    if exact:
        parts = evolve(objective_context(), length=LENGTH)
        facts |= {"objective": Autoregressive().build(parts), "prediction": "next_token"}
    return evolve(evaluation_context(), **facts)


def some_questions(*sizes: tuple[int, ...]) -> list[Question]:
    source = Random(7)

    def word(length: int) -> str:
        return "".join(source.choice("abcdefghij") for _ in range(length))

    return [
        Question(
            number=number,
            options=tuple(Option(context=word(5), answer=word(size)) for size in own),
            right=0,
        )
        for number, own in enumerate(sizes)
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_scores_are_those_of_the_evaluator(exact: bool) -> None:
    questions, context = some_questions((2, 6), (7, 3, 9)), make_context(exact=exact, seed=3)
    answers = Answers.of(questions, context, draws=6, enumerate_up_to=5, bos=False)
    table = answers.table(context)
    for index in range(len(answers.work)):
        answers.update(index, table)
    nats = answers.nats(table)
    found = score_answers(context, questions, draws=6)
    for rows, scores in zip(answers.rows, found, strict=True):
        for row, score in zip(rows, scores, strict=True):
            assert score is not None
            assert [*(score.halves or ()), score.nats] == pytest.approx(nats[row].tolist())
            assert score.stderr == pytest.approx(abs(float(nats[row, 0] - nats[row, 1])) / 2)
    by_tokens = {score.tokens: score for scores in found for score in scores if score is not None}
    assert {n: score.drawn for n, score in by_tokens.items()} == {
        n: n > 5 and not exact for n in (2, 3, 6, 7, 9)
    }
    assert all((score.stderr > 0) == score.drawn for score in by_tokens.values())


def test_what_has_no_tokens_or_too_many_has_no_score() -> None:
    questions = some_questions((2, LENGTH + 1, 3), (0,))
    ((two, long, three), (empty,)) = score_answers(make_context(), questions)
    assert (long, empty) == (None, None)
    assert (two.tokens, three.tokens) == (2, 3)
    (alone,) = score_answers(make_context(), some_questions((2,)))
    assert alone == [two]


def test_of_a_single_draw_no_error_is_known() -> None:
    ((score,),) = score_answers(make_context(), some_questions((7,)), draws=1)
    assert (score.halves, score.stderr, score.drawn) == (None, None, True)


def test_ranks_do_not_matter_and_progress_is_told() -> None:
    told = []
    questions = some_questions((2, 6), (7, 3))
    alone = score_answers(
        make_context(batch_size=4), questions, progress=lambda *done: told.append(done)
    )
    again = score_answers(make_context(batch_size=4, rank=1, world_size=2), questions)
    assert again == alone
    assert told == [(done + 1, len(told)) for done in range(len(told))]
    assert len(told) > 4


def test_a_denoiser_of_some_lengths_only_is_refused_before_it_is_called() -> None:
    context = make_context(lambda *_, **__: pytest.fail("called"), length_multiple=4)
    row = Encoded(tokens=(1, 2, 3), count=1, cut=0)
    for ask in (
        lambda: score_answers(context, some_questions((2, 3))),
        lambda: score_rows(context, [Together(question=0, parts=[row])]),
        lambda: filled_in_greedily(context, [row]),
    ):
        with pytest.raises(RecipeError, match="needs a multiple of 4 tokens"):
            ask()


def test_a_damaged_network_is_told() -> None:
    network = HashDenoiser(VOCAB.size, length=LENGTH).double()
    torch.nn.init.constant_(network.head, math.nan)
    with pytest.raises(MdmkitError, match="not finite"):
        score_answers(make_context(network), some_questions((2,)))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 30])
def test_windows_score_each_token_once(count: int) -> None:
    text = list(range(100, 100 + count))
    found = windows(text, length=8)
    scored = [token for part in found for token in part.tokens[-part.count :]]
    assert scored == text
    assert all(len(part.tokens) == min(8, count) for part in found)
    assert [part.cut for part in found] == [text.index(part.tokens[0]) for part in found]
    started = windows(text, length=8, first=[1])
    assert all(part.tokens[0] == 1 and len(part.tokens) <= 8 for part in started)
    assert [t for part in started for t in part.tokens[-part.count :]] == text


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (3, 4, [(0, 7, 4)]),  # all fits
        (9, 4, [(5, 13, 4)]),  # the context loses its left end
        (6, 7, [(5, 13, 7)]),
        (9, 20, [(5, 13, 4), (13, 21, 8), (21, 29, 8)]),  # half of the first row is context
        (2, 13, [(0, 8, 6), (7, 15, 7)]),
    ],
)
def test_windows_after_a_context(
    given: int, count: int, expected: list[tuple[int, int, int]]
) -> None:
    text = list(range(given + count))
    found = windows(text, given=given, length=8)
    assert [(p.tokens[0], p.tokens[-1] + 1, p.count) for p in found] == expected


def test_an_autoregressive_text_in_windows_is_the_sum_of_its_rows() -> None:
    context = make_context(exact=True)
    ((part,),) = [encode([Option(context="abc", answer="defg")], context.tokenizer,
                         length=LENGTH, bos=False)]  # fmt: skip
    assert part is not None
    pieces = windows(part.tokens, given=3, length=LENGTH)
    assert pieces == [part]
    ((one,),) = score_rows(context, [Together(question="a", parts=pieces)])
    letters = [Encoded(tokens=part.tokens[: end + 1], count=1, cut=0) for end in range(3, 7)]
    (apart,) = score_rows(context, [Together(question="b", parts=letters)])
    assert one.nats == pytest.approx(sum(score.nats for score in apart))


def greedily(tokens: list[int], count: int) -> list[int]:
    """What is filled in after `tokens`, the most confident first, by the network itself."""
    text = torch.tensor([*tokens, *[VOCAB.mask_id] * count])
    for _ in range(count):
        with torch.no_grad():
            p = NETWORK.unembed(NETWORK(text[None]))[0, :, : VOCAB.mask_id].softmax(-1)
        best = p.max(-1).values.masked_fill(text != VOCAB.mask_id, -1).argmax()
        text[best] = p[best].argmax()
    return text[len(tokens) :].tolist()


def test_filled_in_greedily_and_not_called_for_what_is_wrong_already() -> None:
    source, rows = Random(5), []
    for place in range(12):
        start = [source.randrange(10) for _ in range(4)]
        answer = greedily(start, 3)
        if place % 2:
            answer[place % 3] = (answer[place % 3] + 1) % 10
        rows.append(Encoded(tokens=(*start, *answer), count=3, cut=0))
    called: list[int] = []

    class Counted(HashDenoiser):
        def forward(self, tokens: Any, **others: Any) -> Any:
            called.append(len(tokens))
            return super().forward(tokens, **others)

    network = Counted(VOCAB.size, length=2 * LENGTH).double()
    network.load_state_dict(NETWORK.state_dict())
    found = filled_in_greedily(make_context(network, batch_size=64), rows)
    assert found == [place % 2 == 0 for place in range(12)]
    assert called[0] == 12
    assert called[-1] < 12
    called.clear()
    together = make_context(network, batch_size=64, world_size=2)
    greedy = Greedy.of([torch.tensor(row.tokens) for row in rows], [3] * 12, together)
    number, right = greedy.right(0)
    assert right[number.argsort()].bool().tolist() == found
    assert called == [12, 12, 12]  # other ranks count on as many calls
    assert filled_in_greedily(make_context(), []) == []
