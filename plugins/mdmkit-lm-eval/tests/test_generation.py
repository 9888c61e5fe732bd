from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import mdmkit

generation = pytest.importorskip(
    "mdmkit_lm_eval.generation", reason="not installed: pip install -e plugins/mdmkit-lm-eval"
)
Key = pytest.importorskip("mdmkit_lm_eval.likelihood").Key
Protocol = pytest.importorskip("mdmkit_lm_eval.protocol").Protocol


def prompts(*texts: str, **options: Any) -> list[Any]:
    return [
        generation.Prompt(key=Key(task="t", doc=doc, index=0), text=text, options=options)
        for doc, text in enumerate(texts)
    ]


def made(
    runs: Path, name: str, asked: Sequence[Any], *, size: int = 8, use: str = "", **protocol: Any
) -> list[Any]:
    changes = [f'sampler.use="{use}"'] if use else []
    opened = mdmkit.open_run(name, runs_dir=runs, device="cpu", overrides=changes)
    return list(
        generation.continuations(
            opened, asked, Protocol(**protocol), batch_size=size, report=lambda *_: None
        )
    )


@pytest.mark.parametrize(
    ("name", "use"), [("masked", "ancestral"), ("masked", "confidence"), ("next", "")]
)
def test_neither_batches_nor_other_requests_change_a_text(runs: Path, name: str, use: str) -> None:
    asked = prompts("line 3", "line 4", "what is", "line 5", max_gen_toks=9)
    texts = [one.text for one in made(runs, name, asked, use=use)]
    assert len(set(texts)) == 4
    assert [one.text for one in made(runs, name, asked, use=use, size=1)] == texts
    assert [one.text for one in made(runs, name, asked[::-1], use=use)] == texts[::-1]
    assert [one.text for one in made(runs, name, asked, use=use, seed=1)] != texts


def test_a_request_asked_again_gets_another_text(runs: Path) -> None:
    (prompt,) = prompts("line 3", max_gen_toks=9)
    one, two = made(runs, "masked", [prompt, prompt])
    assert one.row != two.row
    assert one.text != two.text
    (alone,) = made(runs, "masked", [prompt])
    assert (alone.row, alone.text) == (one.row, one.text)


def test_noise_belongs_to_the_request() -> None:
    key = Key(task="t", doc=1, index=0)
    rows = {
        generation.noise_row(evolve(key, **changes), repetition)
        for changes in ({}, {"task": "u"}, {"doc": 2}, {"index": 1})
        for repetition in (0, 1)
    }
    assert len(rows) == 8


def test_what_does_not_fit_is_cut_and_told(runs: Path) -> None:
    long = "x" * 70
    (short, cut, wide) = (
        made(runs, "masked", prompts(text, max_gen_toks=tokens))[0]
        for text, tokens in (("line 3", 9), (long, 9), (long, 500))
    )
    assert (short.tokens, short.prompt_cut, short.short_by) == (9, 0, 0)
    assert (cut.tokens, cut.prompt_cut, cut.short_by) == (9, 70 - 55, 0)
    assert (wide.tokens, wide.prompt_cut, wide.short_by) == (32, 70 - 32, 468)
    (empty,) = made(runs, "masked", prompts(""), max_gen_toks=5)
    assert empty.tokens == 5
    (any_length,) = made(runs, "next", prompts(long, max_gen_toks=80))
    assert (any_length.tokens, any_length.prompt_cut, any_length.short_by) == (80, 0, 0)


class Spelled:
    """Decodes to letters; the token before decides whether a space stands between."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join("abcdef"[i] for i in ids)


def test_text_goes_on_where_the_prompt_ends() -> None:
    assert generation.text_after(Spelled(), [0, 1], [2, 3]) == " c d"
    assert generation.text_after(Spelled(), [], [2, 3]) == "c d"


def test_the_first_of_the_stop_strings_ends_a_text() -> None:
    (prompt,) = prompts("x", until=["\n\n", "Q:", ""])
    assert prompt.until == ["\n\n", "Q:"]
    assert generation.until_stop("a Q: b\n\nc", prompt.until) == "a "
    assert generation.until_stop("a", prompt.until) == "a"
    assert prompts("x", until="stop")[0].until == ["stop"]
    assert prompts("x")[0].until == []


def test_a_text_ends_at_eos(runs: Path) -> None:
    opened = mdmkit.open_run("masked", runs_dir=runs, device="cpu")
    vocab = opened.tokenizer.vocab
    (start,) = generation._starts(opened, prompts("x", max_gen_toks=4), Protocol())
    (letters,) = opened.tokenizer.encode_batch(["ab"])
    state = generation.Generation(tokens=None, step=1, network_evaluations=3)
    found = generation._continued(
        start, [*start.ids[: start.given], letters[0], vocab.eos_id, *letters], state,
        opened.tokenizer,
    )  # fmt: skip
    assert (found.text, found.tokens) == ("a", 4)


def test_what_a_task_asks_for() -> None:
    (prompt,) = prompts("x", max_gen_toks=7, until=["."], do_sample=False, temperature=0.0)
    assert prompt.wanted(256) == 7
    assert prompt.not_followed == {"do_sample": False, "temperature": 0.0}
    assert prompts("x", max_new_tokens=3)[0].wanted(256) == 3
    assert prompts("x")[0].wanted(256) == 256
    for value in (0, "7", True, 2.5):
        with pytest.raises(mdmkit.RecipeError, match="t: max_gen_toks: expected a whole number"):
            prompts("x", max_gen_toks=value)[0].wanted(256)
