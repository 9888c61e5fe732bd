from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve

import mdmkit
from mdmkit.builtin.evaluators.choice import MultipleChoice
from mdmkit.diffusion import masked_logits
from mdmkit.protocols import Denoiser, EvaluationContext
from mdmkit.scoring import Together, score_rows, windows
from mdmkit.values import Attention

likelihood = pytest.importorskip(
    "mdmkit_lm_eval.likelihood", reason="not installed: pip install -e plugins/mdmkit-lm-eval"
)
Asked, Key = likelihood.Asked, likelihood.Key
Protocol = pytest.importorskip("mdmkit_lm_eval.protocol").Protocol


def context_of(runs: Path, name: str, **changes: Any) -> EvaluationContext:
    opened = mdmkit.open_run(name, runs_dir=runs, device="cpu")
    return evolve(mdmkit.trained_context(opened, batch_size=8), **changes)


def ask(*pairs: tuple[str, str], doc: int = 0) -> list[Any]:
    return [
        Asked(key=Key(task="t", doc=doc, index=index), context=one, continuation=two)
        for index, (one, two) in enumerate(pairs)
    ]


def found(
    context: EvaluationContext, asked: list[Any], *, greedy: bool = False, **options: Any
) -> list[Any]:
    protocol = Protocol(**{"draws": 4, **options})
    return list(
        likelihood.likelihoods(context, asked, protocol, greedy=greedy, report=lambda *_: None)
    )


@pytest.mark.parametrize("name", ["masked", "next"])
def test_scores_are_those_of_our_own_evaluator(runs: Path, questions: Path, name: str) -> None:
    """The same prompts, draws and seed: the same numbers, answer by answer."""
    context = context_of(runs, name, seed=5)
    live = MultipleChoice(task="arc_easy", path=str(questions), draws=4).build(context)
    for index in range(len(live)):
        live.update(index)
    nats = live.answers.nats(live.table)
    asked = [
        Asked(
            key=Key(task="any", doc=doc, index=index),
            context=f"Question: {row['question']}\nAnswer:",
            continuation=f" {text}",
        )
        for doc, row in enumerate(map(json.loads, questions.read_text().splitlines()))
        for index, text in enumerate(row["choices"]["text"])
    ]
    answers = found(context, asked)
    rows = [row for rows in live.answers.rows for row in rows]
    assert len(answers) == len(rows) == 36
    for answer, row in zip(answers, rows, strict=True):
        assert [*answer.halves, answer.nats] == pytest.approx(nats[row].tolist(), abs=1e-5)
    drawn = {answer.drawn for answer in answers}
    assert drawn == ({True, False} if name == "masked" else {False})
    assert all((answer.stderr > 0) == answer.drawn for answer in answers)


def test_requests_of_a_document_share_their_noise_and_others_do_not(runs: Path) -> None:
    context = context_of(runs, "masked")
    pair = ("The", " square is 81")
    together = found(context, [*ask(pair, pair), *ask(pair, doc=1)])
    assert together[0] == together[1]
    assert together[2].nats != together[0].nats
    assert together[2].nats == pytest.approx(together[0].nats, abs=5 * together[0].stderr + 5)


def test_neither_batches_nor_other_documents_change_a_score(runs: Path) -> None:
    documents = [("The", " square is 81"), ("line", " 7: 49"), ("", "of seven")]
    asked = [one for doc, pair in enumerate(documents) for one in ask(pair, doc=doc)]
    alone = [found(context_of(runs, "masked"), [one])[0].nats for one in asked]
    for size in (1, 64):
        answers = found(context_of(runs, "masked", batch_size=size), asked[::-1])[::-1]
        assert [answer.nats for answer in answers] == pytest.approx(alone, abs=1e-4)


def test_what_has_no_tokens_is_certain(runs: Path) -> None:
    (answer,) = found(context_of(runs, "masked"), ask(("a", "")), greedy=True)
    assert (answer.nats, answer.stderr, answer.tokens, answer.greedy) == (0.0, 0.0, 0, True)


def chain_rule(context: EvaluationContext, ids: list[int], count: int) -> float:
    """−log p of the last `count` ids, one after the other, by the network itself."""
    vocab = context.tokenizer.vocab
    shifted = torch.tensor([[vocab.start_id, *ids[:-1]]])

    def call(denoiser: Denoiser) -> torch.Tensor:
        h = denoiser(shifted, attention=Attention(causal=True))
        return masked_logits(denoiser.unembed(h), vocab.mask_id).log_softmax(-1)[0]

    log_p = context.call(call).double()
    return -sum(float(log_p[place, ids[place]]) for place in range(len(ids) - count, len(ids)))


def test_a_next_token_network_follows_the_chain_rule_also_in_windows(runs: Path) -> None:
    context = context_of(runs, "next")
    (short,) = found(context, ask(("line 3", ": 9 is")))
    (ids,) = context.tokenizer.encode_batch(["line 3: 9 is"])
    (before,) = context.tokenizer.encode_batch(["line 3"])
    assert short.nats == pytest.approx(chain_rule(context, ids, len(ids) - len(before)), abs=1e-4)
    text = " and ".join(f"{i} squared is {i * i}" for i in range(11, 19))
    (ids,) = context.tokenizer.encode_batch([text])
    (long,) = found(context, ask(("", text)))
    length, count = context.length, len(ids)
    assert count > 2 * length
    whole = [chain_rule(context, ids[at : at + length], length) for at in (0, length)]
    rest = count - 2 * length
    assert rest < length
    last = chain_rule(context, ids[-length:], rest)
    assert long.nats == pytest.approx(sum(whole) + last, abs=1e-3)
    assert (long.rows, long.tokens) == (3, count)


def test_a_masked_text_in_windows_has_an_error(runs: Path) -> None:
    context = context_of(runs, "masked")
    text = " and ".join(f"{i} squared is {i * i}" for i in range(11, 15))
    (ids,) = context.tokenizer.encode_batch([text])
    assert len(ids) > context.length
    (few,), (many,) = (found(context, ask(("", text)), draws=draws) for draws in (4, 32))
    assert few.tokens == len(ids)
    assert few.nats == pytest.approx(many.nats, abs=5 * math.hypot(few.stderr, many.stderr))
    assert 0 < many.stderr < few.stderr
    assert few.nats / len(ids) > 1  # random weights know nothing
    parts = [
        score_rows(context, [Together(question=f"0, request 0, window {number}", parts=[part])],
                   draws=4)[0][0]
        for number, part in enumerate(windows(ids, length=context.length))
    ]  # fmt: skip
    assert few.rows == len(parts) == 2
    assert few.nats == pytest.approx(sum(part.nats for part in parts), abs=1e-3)
    assert few.stderr == pytest.approx(math.hypot(*(part.stderr for part in parts)), abs=1e-3)
    other = context_of(runs, "masked", seed=1)
    assert found(other, ask(("", text)), draws=4)[0].nats != few.nats


def likeliest(context: EvaluationContext, ids: list[int]) -> int:
    """The likeliest token after `ids`, by the network itself."""
    vocab = context.tokenizer.vocab
    shifted = torch.tensor([[vocab.start_id, *ids]])

    def call(denoiser: Denoiser) -> torch.Tensor:
        h = denoiser(shifted, attention=Attention(causal=True))
        return masked_logits(denoiser.unembed(h), vocab.mask_id)[0, -1].argmax()

    return int(context.call(call))


def test_greedily_is_what_the_network_itself_says(runs: Path) -> None:
    context, pairs, expected = context_of(runs, "next"), [], []
    for number in range(12):
        before = f"line {number}"
        (ids,) = context.tokenizer.encode_batch([before])
        said = context.tokenizer.decode([likeliest(context, ids)])
        if context.tokenizer.encode_batch([before + said])[0][:-1] == ids:  # not half a character
            pairs += [(before, said), (before, "z"), (before, said + "z")]
            expected += [True, said == "z", False]
    assert len(pairs) >= 6
    assert [one.greedy for one in found(context, ask(*pairs), greedy=True)] == expected
    assert found(context, ask(("a", "b")))[0].greedy is None


def test_bos_stands_in_front_of_every_row(runs: Path) -> None:
    context = context_of(runs, "next")
    vocab = context.tokenizer.vocab
    assert vocab.bos_id is not None
    (answer,) = found(context, ask(("line 3", ": 9")), bos=True)
    (ids,) = context.tokenizer.encode_batch(["line 3: 9"])
    (before,) = context.tokenizer.encode_batch(["line 3"])
    expected = chain_rule(context, [vocab.bos_id, *ids], len(ids) - len(before))
    assert answer.nats == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 1}, "draws: expected at least 2, got 1"),
        ({"draws": "8"}, "draws: expected a whole number, got '8'"),
        ({"enumerate": 13}, "enumerate: expected at most 12, got 13"),
        ({"bos": 1}, "bos: expected true or false, got 1"),
        ({"seed": True}, "seed: expected a whole number, got True"),
        ({"max_gen_toks": 0}, "max_gen_toks: expected at least 1, got 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(mdmkit.RecipeError, match=message):
        Protocol(**options).check()
