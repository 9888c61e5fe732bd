from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from mdmkit.builtin.evaluators.choice import LastWord, MultipleChoice
from mdmkit.builtin.evaluators.choice.accuracy import credit, mean, share
from mdmkit.builtin.evaluators.choice.answers import Answers
from mdmkit.builtin.objectives import Autoregressive
from mdmkit.errors import DataError, MdmkitError
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.protocols import Denoiser, EvaluationContext
from mdmkit.scoring.greedy import Greedy
from mdmkit.scoring.masks import QuestionDraws, all_masks
from mdmkit.scoring.questions import Option, Question, encode
from mdmkit.testing import evaluation_context, objective_context
from mdmkit.testing.facts import VOCAB, HashDenoiser, UniformDenoiser, cross_entropies
from mdmkit.values import Attention

LENGTH = 16
NETWORK = HashDenoiser(VOCAB.size, length=2 * LENGTH).double()


def make_context(network: Any = NETWORK, *, exact: bool = False, **changes: Any):
    def call(function: Callable[[Denoiser], Any]) -> Any:
        with torch.no_grad():
            return function(network)

    facts: dict[str, Any] = {"call": call, "length": LENGTH, "batch_size": 64, **changes}
    if exact:
        parts = evolve(objective_context(), length=LENGTH)
        facts |= {"objective": Autoregressive().build(parts), "prediction": "next_token"}
    return evolve(evaluation_context(), **facts)


def words(source: Random, length: int) -> str:
    return "".join(source.choice("abcdefghij") for _ in range(length))


def random_questions(
    count: int, sizes: Sequence[int], *, premise: str | None = None
) -> list[Question]:
    source = Random(3)
    return [
        Question(
            number=number,
            options=tuple(
                Option(context=words(source, 5), answer=words(source, source.choice(sizes)))
                for _ in range(3)
            ),
            right=source.randrange(3),
            premise=premise,
        )
        for number in range(count)
    ]


def scored(
    questions: Sequence[Question],
    context: EvaluationContext,
    *,
    draws: int = 4,
    enumerate_up_to: int = 5,
) -> tuple[Answers, Tensor]:
    """The answers, and the NELBO of each row by either half of the draws and by all."""
    answers = Answers.of(
        questions, context, draws=draws, enumerate_up_to=enumerate_up_to, bos=False
    )
    table = answers.table(context)
    for index in range(len(answers.work)):
        answers.update(index, table)
    return answers, answers.nats(table)


def log_p(tokens: Tensor, position: int, mask: Tensor) -> float:
    """−log p of one token given those that are not masked, by the network itself."""
    xt = torch.where(mask, VOCAB.mask_id, tokens)[None]
    with torch.no_grad():
        logits = NETWORK.unembed(NETWORK(xt))[0, position]
    return float(cross_entropies(logits[None], tokens[position][None], VOCAB.mask_id))


def any_order(tokens: Tensor, count: int) -> float:
    """The average over all orders in which the last `count` tokens can be revealed."""
    length = len(tokens)
    orders = list(itertools.permutations(range(length - count, length)))
    total = 0.0
    for order in orders:
        mask = torch.arange(length) >= length - count
        for position in order:
            total += log_p(tokens, position, mask)
            mask[position] = False
    return total / len(orders)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_an_enumerated_answer_is_the_average_over_all_orders(count: int) -> None:
    (question,) = random_questions(1, [count])
    answers, nats = scored([question], make_context())
    for row in answers.rows[0]:
        expected = any_order(answers.work.rows[row].tokens, count)
        torch.testing.assert_close(nats[row], torch.full((3,), expected).double())
    assert answers.work.network_rows == 3 * (2**count - 1)
    assert not answers.drawn


def test_five_tokens_are_enumerated_and_six_are_not() -> None:
    for count, drawn, rows in ((5, False, 3 * 31), (6, True, None)):
        answers, _ = scored(random_questions(1, [count]), make_context(), draws=16)
        assert answers.drawn == drawn
        assert rows is None or answers.work.network_rows == rows


def test_weights_of_all_masks_give_each_count_the_same() -> None:
    masks = all_masks(4)
    by_count = torch.zeros(5).double().index_add(0, masks.masks.sum(-1), masks.weights[:, 0])
    # a constant cross-entropy of 1 a masked token: k·(weight of the k-subsets) = n/n = 1 each
    torch.testing.assert_close(by_count * torch.arange(5), torch.tensor([0.0, 1, 1, 1, 1]).double())


@pytest.mark.parametrize("draws", [5, 8])
def test_draws_agree_with_enumeration(draws: int) -> None:
    questions = random_questions(12, [6, 7, 8])
    _, exact = scored(questions, make_context(), enumerate_up_to=8)
    found = torch.stack(
        [scored(questions, make_context(seed=seed), draws=draws)[1] for seed in range(30)]
    )  # [40, R, 3]
    z = (found.mean(0) - exact) / (found.std(0) / math.sqrt(len(found)))
    assert z.abs().max() < 4.5
    assert z.square().mean().sqrt() == pytest.approx(1.0, abs=0.25)


def test_the_error_of_draws_is_honest() -> None:
    """Over many seeds the accuracy scatters as much as is said, or a little less."""
    questions = random_questions(30, [6, 7, 8, 9])
    right = torch.tensor([question.right for question in questions])
    values, claims = [], []
    for seed in range(20):
        answers, nats = scored(questions, make_context(seed=seed), draws=8)
        one, two, both = (
            credit(part, right) for part in nats[torch.tensor(answers.rows)].unbind(-1)
        )
        number = share(both, (one, two))
        values.append(number.value)
        claims.append(number.draws_stderr or 0.0)
    scatter = float(torch.tensor(values).std())
    claimed = float(torch.tensor(claims).square().mean().sqrt())
    assert 0.9 * scatter < claimed < 1.6 * scatter


def test_answers_of_a_question_share_their_random_numbers() -> None:
    options = (Option(context="abc", answer="defghi"), Option(context="cba", answer="ihgfedc"))
    same = Option(context="jjj", answer="aaaaaa")
    question = Question(number=5, options=(*options, same), right=0)
    other = Question(number=6, options=(*options, same), right=0)
    answers, _ = scored([question, other], make_context(), draws=16)
    six, seven, again = (answers.work.rows[row].masks for row in answers.rows[0])
    assert again is six  # the same masks for an answer of the same length
    numbers = QuestionDraws.of(make_context(), 5, 16, 7)
    counts = {n: (numbers.count * n).ceil() for n in (6, 7)}
    assert len(six) < 16  # those that are alike are called once
    assert torch.equal(seven.masks, numbers.masks(7).masks)
    for n, masks in ((6, six), (7, seven)):
        found = masks.masks.sum(-1).double()
        assert set(found.tolist()) == set(counts[n].tolist())
    assert not torch.equal(answers.work.rows[answers.rows[1][0]].masks.masks, six.masks)


def test_each_half_of_the_draws_is_stratified() -> None:
    numbers = QuestionDraws.of(make_context(), 0, 16, 4)
    assert torch.equal((numbers.count * 16).long(), torch.arange(16))
    for half in (0, 1):
        assert torch.equal((numbers.count[numbers.half == half] * 8).long(), torch.arange(8))


def test_of_an_odd_number_of_draws_one_is_in_neither_half() -> None:
    left_out = []
    for question in range(40):
        half = QuestionDraws.of(make_context(), question, 5, 4).half
        assert [(half == value).sum() for value in range(3)] == [2, 2, 1]
        left_out.append(int((half == 2).nonzero()))
    assert set(left_out) == set(range(5))
    questions = random_questions(3, [6])
    answers, nats = scored(questions, make_context(), draws=1)
    assert not answers.drawn  # there are no halves
    assert bool((nats[:, 2] > 0).all())


@pytest.mark.parametrize("exact", [False, True])
def test_batches_change_nothing(exact: bool) -> None:
    questions = random_questions(6, [2, 6, 9], premise="ab")
    found = [
        scored(questions, make_context(exact=exact, batch_size=size))[1] for size in (1, 3, 1000)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=0)


def test_no_row_is_padded_and_no_batch_is_too_large() -> None:
    seen = []

    class Watched(HashDenoiser):
        def forward(self, tokens: Tensor, **others: Any) -> Tensor:
            seen.append(tokens.shape)
            assert others["attention"].padding is None
            return super().forward(tokens, **others)

    network = Watched(VOCAB.size, length=LENGTH).double()
    scored(random_questions(6, [2, 6, 9]), make_context(network, batch_size=2))
    assert max(rows * length for rows, length in seen) <= 2 * LENGTH
    assert len({length for _, length in seen}) == 3


def test_the_time_is_that_of_the_whole_row() -> None:
    """Of 5 + 2 tokens one or two are masked: the mask rates that training would call t."""
    times = set()

    class Timed(HashDenoiser):
        def forward(self, tokens: Tensor, *, t: Tensor, **others: Any) -> Tensor:
            times.update(t.tolist())
            return super().forward(tokens, t=t, **others)

    scored(random_questions(1, [2]), make_context(Timed(VOCAB.size, length=LENGTH).double()))
    assert sorted(times) == pytest.approx([1 / 7, 2 / 7])


def test_an_autoregressive_network_follows_the_chain_rule() -> None:
    (question,) = random_questions(1, [6])
    answers, nats = scored([question], make_context(exact=True))
    assert answers.work.network_rows == 3
    for row in answers.rows[0]:
        tokens = answers.work.rows[row].tokens
        expected = 0.0
        for position in range(5, 11):
            before = torch.cat([torch.tensor([VOCAB.start_id]), tokens[:position]])[None]
            with torch.no_grad():
                logits = NETWORK.unembed(NETWORK(before, attention=Attention(causal=True)))[0, -1:]
            expected += float(cross_entropies(logits, tokens[position][None], VOCAB.mask_id))
        torch.testing.assert_close(nats[row], torch.full((3,), expected).double())


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_find_what_one_finds(ranks: int) -> None:
    questions = random_questions(5, [2, 6, 9], premise="ab")
    alone, nats = scored(questions, make_context(batch_size=5))
    assert len(alone.work.calls) % ranks  # some rank has a batch less
    parts = []
    for rank in range(ranks):
        context = make_context(batch_size=5, rank=rank, world_size=ranks)
        answers, found = scored(questions, context)
        assert len(answers.work) == math.ceil(len(alone.work.calls) / ranks)
        parts.append(found)
    assert not torch.equal(parts[0], nats)
    torch.testing.assert_close(sum(parts), nats, rtol=1e-12, atol=1e-12)


def test_the_same_text_is_scored_once() -> None:
    bare = [
        Question(
            number=number,
            options=(Option(context=str(number), answer="abc"),),
            right=0,
            premise="z",
        )
        for number in range(4)
    ]
    answers, _ = scored(bare, make_context())
    assert len(answers.work.rows) == 5
    assert len({tuple(rows) for rows in answers.bare_rows}) == 1


# --- tokens


class WordTokenizer:
    """A token a word with the space before it; ``x y`` is one word, so that boundaries move."""

    vocab = VOCAB
    fingerprint = "words"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(w) % 9 for w in t.replace("x y", "xyxyx").split()] for t in texts]


def test_the_answer_begins_where_the_whole_differs_from_the_context() -> None:
    texts = [Option(context="aa bbb", answer=" c dd"), Option(context="aa x", answer=" y dd")]
    plain, merged = encode(texts, WordTokenizer(), length=9, bos=False)
    assert (plain.tokens, plain.count) == ((2, 3, 1, 2), 2)
    # "x" and "y" are one token in the whole: it is all answer, and none of it is visible
    assert (merged.tokens, merged.count) == ((2, 5, 2), 2)


def test_long_contexts_lose_their_left_end() -> None:
    text = [Option(context="a bb ccc", answer=" dddd eeeee")]
    (whole,) = encode(text, WordTokenizer(), length=4, bos=False)
    assert (whole.tokens, whole.count, whole.cut) == ((2, 3, 4, 5), 2, 1)
    (started,) = encode(text, WordTokenizer(), length=4, bos=True)
    assert (started.tokens, started.count, started.cut) == ((VOCAB.bos_id, 3, 4, 5), 2, 2)
    (only,) = encode(text, WordTokenizer(), length=2, bos=False)
    assert (only.tokens, only.count) == ((4, 5), 2)
    assert encode(text, WordTokenizer(), length=1, bos=False) == [None]
    assert encode([Option(context="a", answer=" ")], WordTokenizer(), length=4, bos=False) == [None]


# --- numbers


def test_the_lowest_score_wins_and_ties_share() -> None:
    inf = math.inf
    scores = torch.tensor([[1.0, 2, 3], [2, 1, 3], [1, 1, inf], [4, 4, 4], [4, 4, 5]]).double()
    right = torch.tensor([0, 0, 1, 2, 2])
    assert credit(scores, right).tolist() == pytest.approx([1, 0, 1 / 2, 1 / 3, 0])


def test_errors_of_a_share() -> None:
    number = share(torch.tensor([1.0] * 300 + [0.0] * 700).double())
    assert (number.value, number.draws_stderr) == (pytest.approx(0.3), None)
    assert number.stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 1000), rel=2e-3)
    assert share(torch.ones(10).double()).stderr > 0
    halves = (torch.tensor([1.0, 1, 0, 0]).double(), torch.tensor([1.0, 0, 1, 0]).double())
    assert share(halves[0], halves).draws_stderr == pytest.approx(1 / 4)


def test_errors_of_a_mean() -> None:
    values = torch.tensor([[1.0, 3.0, 2.0], [4.0, 4.0, 4.0], [6.0, 6.0, 6.0]]).double()
    number = mean(values, unit="nats", drawn=True)
    assert (number.value, number.stderr) == (4.0, pytest.approx(2 / math.sqrt(3)))
    assert number.draws_stderr == pytest.approx(1 / 3)  # (difference / 2) / 3
    assert mean(values, unit="nats", drawn=False).draws_stderr is None


# --- the evaluators


def write_piqa(path: Path, rows: int = 12) -> Path:
    source = Random(1)
    lines = [
        {"goal": "g", "sol1": words(source, 2), "sol2": words(source, 4), "label": i % 2}
        for i in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_accuracies_compare_what_they_say(tmp_path: Path) -> None:
    path = str(write_piqa(tmp_path / "piqa.jsonl"))
    live = MultipleChoice(task="piqa", path=path).build(make_context(length=20))
    for index in range(len(live)):
        live.update(index)
    scores = live.scores()
    nats = live.answers.nats(live.table)
    cond, bare = nats[torch.tensor(live.answers.rows)], nats[torch.tensor(live.answers.bare_rows)]
    # the letter tokenizer: a token a byte, and the space in front is a token, too
    torch.testing.assert_close(scores["accuracy"], cond)
    torch.testing.assert_close(
        scores["accuracy_per_token"], cond / torch.tensor([3.0, 5.0])[None, :, None]
    )
    torch.testing.assert_close(
        scores["accuracy_per_byte"], cond / torch.tensor([2.0, 4.0])[None, :, None]
    )
    torch.testing.assert_close(scores["accuracy_pmi"], cond - bare)
    right = torch.tensor([i % 2 for i in range(12)])
    found = live.compute()
    for name, score in scores.items():
        expected = (score[..., 2].argmin(-1) == right).double().mean()
        assert found[name].value == pytest.approx(float(expected))
    assert any(number.value not in (0.0, 1.0) for number in found.values())


def test_a_network_that_knows_nothing_is_at_chance(tmp_path: Path) -> None:
    """Equal answers tie; the longer one loses by its sum and ties by token."""
    path = str(write_piqa(tmp_path / "piqa.jsonl"))
    context = make_context(UniformDenoiser(VOCAB.size).double(), length=20)
    found = run_evaluation(MultipleChoice(task="piqa", path=path), context)
    assert found.measurements["accuracy"].value == 0.5  # always the shorter: right in half
    assert found.measurements["accuracy_per_token"].value == 0.5
    assert found.measurements["accuracy_pmi"].value == 0.5
    assert found.provenance["chance"] == 0.5


def test_provenance(tmp_path: Path) -> None:
    path = str(write_piqa(tmp_path / "piqa.jsonl"))
    options = MultipleChoice(task="piqa", path=path, questions=6, enumerate=3)
    facts = run_evaluation(options, make_context(length=20)).provenance
    assert facts["task"] == "piqa"
    assert facts["data"]["files"] == ["piqa.jsonl"]
    assert (facts["questions"], facts["questions_in_split"]) == (6, 12)
    assert (facts["draws"], facts["enumerated_share"]) == (16, 0.5)
    assert facts["truncated"] == 12  # "Question: g\nAnswer: abcd" has more than 20 letters
    assert len(facts["fingerprint"]) == 64
    assert "split" not in facts  # which one a file holds is not known


def test_winogrande_has_one_accuracy(tmp_path: Path) -> None:
    row = {"sentence": "a _ b c", "option1": "d", "option2": "e", "answer": "1"}
    path = tmp_path / "wino.jsonl"
    path.write_text((json.dumps(row) + "\n") * 2)
    found = run_evaluation(MultipleChoice(task="winogrande", path=str(path)), make_context())
    assert set(found.measurements) == {"accuracy"}


def test_what_cannot_be_scored(tmp_path: Path) -> None:
    path = str(write_piqa(tmp_path / "piqa.jsonl", rows=1))
    with pytest.raises(DataError, match=r"piqa: 1 questions can be scored \(0 have .* at least 2"):
        MultipleChoice(task="piqa", path=path).build(make_context())
    path = str(write_piqa(tmp_path / "piqa.jsonl"))
    with pytest.raises(DataError, match=r"0 questions can be scored \(12 have .* more than the 4"):
        MultipleChoice(task="piqa", path=path).build(make_context(length=4))
    no_bos = make_context()
    object.__setattr__(no_bos.tokenizer, "vocab", evolve(VOCAB, bos_id=None))
    with pytest.raises(DataError, match="no BOS token"):
        MultipleChoice(task="piqa", path=path, bos=True).build(no_bos)


def test_a_damaged_network_is_told(tmp_path: Path) -> None:
    path = str(write_piqa(tmp_path / "piqa.jsonl"))
    network = HashDenoiser(VOCAB.size, length=LENGTH).double()
    torch.nn.init.constant_(network.head, math.nan)
    with pytest.raises(MdmkitError, match="not finite"):
        run_evaluation(MultipleChoice(task="piqa", path=path), make_context(network))


# --- the last word


class SpacelessTokenizer:
    """A token a letter, d to m; spaces are none."""

    vocab = VOCAB
    fingerprint = "spaceless"

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) - ord("d") for letter in text if letter != " "] for text in texts]


def said(context: list[int], count: int, *, causal: bool) -> list[int]:
    """What the network fills in, worked out step by step for one row."""
    text = context + [VOCAB.mask_id] * count
    for step in range(count):
        if causal:
            inputs, attention = [VOCAB.start_id, *text[:-1]], Attention(causal=True)
        else:
            inputs, attention = text, Attention()
        with torch.no_grad():
            logits = NETWORK.unembed(NETWORK(torch.tensor([inputs]), attention=attention))[0]
        p = logits[:, : VOCAB.mask_id].exp() / logits[:, : VOCAB.mask_id].exp().sum(-1)[:, None]
        hidden = [place for place, token in enumerate(text) if token == VOCAB.mask_id]
        place = hidden[0] if causal else max(hidden, key=lambda place: float(p[place].max()))
        text[place] = int(p[place].argmax())
        assert text.count(VOCAB.mask_id) == count - step - 1
    return text[len(context) :]


def write_passages(path: Path, *, causal: bool, rows: int = 24) -> tuple[Path, list[bool]]:
    """Passages, and for which of them the last word is what the network says (every third)."""
    source, encode_one = Random(2), SpacelessTokenizer().encode_batch
    texts, right = [], []
    for row in range(rows):
        context = "".join(source.choice("defghijklm") for _ in range(5))
        count = source.choice((1, 2, 3))
        likely = "".join(
            chr(ord("d") + token) for token in said(encode_one([context])[0], count, causal=causal)
        )
        first = "d" if likely[0] != "d" else "e"
        word = likely if row % 3 == 0 else first + likely[1:]
        texts.append(f"{context} {word}")
        right.append(row % 3 == 0)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path, right


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_last_word_filled_in_greedily(tmp_path: Path, exact: bool, batch_size: int) -> None:
    path, expected = write_passages(tmp_path / "passages.jsonl", causal=exact)
    context = make_context(exact=exact, batch_size=batch_size, tokenizer=SpacelessTokenizer())
    live = LastWord(path=str(path)).build(context)
    for index in range(len(live)):
        live.update(index)
    rows = [places[0] for places in live.answers.rows]
    assert live.hits.compute()[rows, 0].tolist() == expected
    found = live.compute()
    assert found["accuracy"].value == pytest.approx(1 / 3)
    nelbo = live.answers.nats(live.table)[rows, 2].mean()
    assert found["nelbo_per_word"].value == pytest.approx(float(nelbo))
    assert found["ppl_per_word"].value == pytest.approx(math.exp(nelbo))


def test_ranks_fill_in_what_one_does() -> None:
    """Three answers of 3, 2 and 1 tokens on two ranks, in batches of one."""
    source, counts = Random(4), [1, 3, 2]
    contexts = [[source.randrange(10) for _ in range(5)] for _ in counts]
    tokens = [
        torch.tensor(context + said(context, count, causal=False))
        for context, count in zip(contexts, counts, strict=True)
    ]
    found, calls = torch.zeros(3), []
    for rank in range(2):
        context = make_context(batch_size=1, rank=rank, world_size=2, length=8)
        asked = []

        def call(function: Any, ask: Any = context.call, asked: list[int] = asked) -> Any:
            asked.append(1)
            return ask(function)

        greedy = Greedy.of(tokens, counts, evolve(context, call=call))
        assert len(greedy) == 2
        for index in range(2):
            rows, right = greedy.right(index)
            found[rows] += right.float()
        calls.append(len(asked))
    assert found.tolist() == [1, 1, 1]
    assert calls == [3 + 1, 3 + 1]  # as many as the longer of two, or sharded networks would wait


def test_a_passage_of_one_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text('{"text": "two words"}\n{"text": "one"}\n')
    with pytest.raises(DataError, match=r"passages.jsonl: line 2: .* two words, got 'one'"):
        LastWord(path=str(path)).build(make_context())
