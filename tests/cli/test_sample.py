"""``mdmkit sample``: gaps, files, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import mdmkit as package
from mdmkit.data.text_tokenizer import load_tokenizer

from ..unit.evaluation.runs import make_run
from .commands import mdmkit, refused

NEXT = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of each kind, with random weights: tiny predicts masks, next does not."""
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        patch.setenv("MDMKIT_PLUGINS", "none")
        make_run(folder, extra="", steps=(1,))
        (folder / "other").mkdir()
        make_run(folder / "other", extra=NEXT, steps=(1,)).rename(folder / "runs" / "next-0")
        yield folder / "runs"


def texts(*arguments: object) -> list[dict]:
    said = mdmkit("sample", "tiny", "--json", "--use", "cached", *arguments)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_gaps_are_filled_and_what_is_given_stays(runs):
    found = texts("--template", "ab[MASK:3]c", "--template", "[BOS][MASK:2]", "-n", 2, "--seed", 3)
    assert [(one["template_id"], one["row"]) for one in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one in found[:2]:
        assert one["text"].startswith("ab")
        assert one["text"].endswith("c")
        (gap,) = one["gaps"]
        assert (gap["start"], gap["stop"]) == (2, 5)
        assert one["token_log_p"][:2] == [0, 0]
        assert one["log_p"] == pytest.approx(sum(one["token_log_p"][2:5]))
        assert one["log_p"] < 0
    assert found[0]["ids"] != found[1]["ids"]
    alone = texts("--template", "[BOS][MASK:2]", "-n", 2, "--seed", 3, "--batch-size", 1)
    assert [one["ids"] for one in alone] == [one["ids"] for one in found[2:]]


def test_open_gaps_report_every_length(runs):
    said = mdmkit("sample", "tiny", "--template", "a[MASK:1-3]b", "--draws", 4, "--steps", 2)
    assert ", the best of 3" in said.out
    (one,) = texts("--template", "a[MASK:1-3]b", "--draws", 4)
    best = min(one["candidates"], key=lambda candidate: candidate["nelbo"])
    assert [candidate["lengths"] for candidate in one["candidates"]] == [[1], [2], [3]]
    assert best["chosen"]
    assert len(one["ids"]) == 2 + best["lengths"][0]
    assert (one["nelbo"], one["nelbo_stderr"]) == (best["nelbo"], best["nelbo_stderr"])
    assert one["provenance"]["gap_lengths"]["draws"] == 4


def test_templates_from_a_file_to_a_file(runs, tmp_path):
    source, lines, plain = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "out.txt"))
    source.write_text('{"template": "a[MASK:2]", "id": "x"}\n\n{"template": "[MASK:4]b"}\n')
    said = mdmkit("sample", "tiny", "--templates", source, "--steps", 2, "--out", lines)
    assert (said.code, said.out) == (0, "")
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(one["template_id"], one["template"]) for one in found] == [
        ("x", "a[MASK:2]"),
        (1, "[MASK:4]b"),
    ]
    assert mdmkit("sample", "tiny", "--templates", source, "--steps", 2, "--out", plain).code == 0
    assert plain.read_text() == (
        f"======== sample 0 · template x · seed 0\n{found[0]['text']}\n\n"
        f"======== sample 0 · template 1 · seed 0\n{found[1]['text']}\n\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.txt"]


def test_use_begins_a_table_that_set_goes_on_with(runs):
    changes = ("--set", "sampler.temperature=0.5", "--steps", 3, "-n", 1)
    (one,) = texts(*changes)
    told = one["provenance"]["sampler"]
    assert (told["use"], told["temperature"], told["steps"]) == ("cached", 0.5, 3)
    said = mdmkit("sample", "tiny", "--json", "--set", "sampler.use=cached", *changes)
    assert json.loads(said.out)[0] == one


def test_32_bit_draws_are_warned_of_once(runs):
    said = mdmkit("sample", "tiny", "--steps", 2, "--set", "sampler.draws=float32", "--json")
    assert said.err.count("lowers the entropy") == 1
    assert json.loads(said.out)[0]["provenance"]["sampler"]["draws"] == "float32"
    assert "entropy" not in mdmkit("sample", "tiny", "--steps", 2).err


def test_watching_without_a_terminal_says_so(runs):
    said = mdmkit("sample", "tiny", "--steps", 2, "-n", 1, "--watch")
    assert "--watch: there is no terminal" in said.err
    assert "sample 0 · seed 0" in said.out


def test_states_from_python_end_with_the_texts(runs):
    asked = {"templates": ["ab[MASK:4]", "[MASK:3]"], "steps": 3, "seed": 2}
    ends = {}
    for state in package.sample_states("tiny", **asked):
        for text in state.texts:
            ends[text.place] = text
    samples = package.sample("tiny", **asked)
    assert [ends[place].ids for place in sorted(ends)] == [one.ids for one in samples]
    assert all(text.masks == 0 for text in ends.values())
    with pytest.raises(package.RecipeError, match="n: expected"):
        package.sample_states("tiny", n=0)  # at once, without a first state


def test_a_run_that_predicts_the_next_token_fills_the_end(runs):
    said = mdmkit("sample", "next", "--template", "ab[MASK:3]", "--json")
    (one,) = json.loads(said.out)
    assert one["text"].startswith("ab")
    assert one["token_log_p"][:2] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", 0), "n: expected at least 1 text, got 0"),
        (("--steps", 0), "[sampler] steps: expected a value >= 1, got 0"),
        (("--length", 17), "length: expected 1 to 16 tokens"),
        (("--use", "cachd"), 'no sampler "cachd"; did you mean "cached"?'),
        (("--use", "autoregressive"), "expected one of these: ancestral, "),
        (("--use", "cached", "--set", "sampler.use=cached"), "sampler.use is what --use says, too"),
        (("--steps", 2, "--set", "sampler.steps=3"), "sampler.steps is what --steps says, too"),
        (("--set", "sampler=3"), "sampler: expected a table"),
        (("--set", "sampler.temprature=1"), "did you mean temperature?"),
        (("--set", "train.steps=3"), "[train] is fixed"),
        (("--template", "[MAKS]"), 'did you mean "MASK"?'),
        (("--template", "a[MASK:16]"), "expected 1 to 16 tokens"),
        (("--template", "a[MASK]", "--prompt", "b"), "leave out prompt"),
        (("--template", "a[MASK]", "--draws", 4), "no template leaves a length open"),
        (("--templates", "none.jsonl"), "none.jsonl: cannot be read"),
        (("--out", "texts.json"), "expected a file that ends in .jsonl or .txt"),
        (("--out", "texts"), "expected a file that ends in .jsonl or .txt"),
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_message(runs, arguments, words):
    said = refused("sample", "tiny", *arguments)
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--use", "ancestral"), "expected one of these: autoregressive"),
        (("--steps", 3), 'steps: the sampler "autoregressive" has no such option; leave it out'),
        (("--template", "[MASK]a"), "this run predicts the next token"),
    ],
)
def test_mistakes_with_a_run_that_predicts_the_next_token(runs, arguments, words):
    assert words in refused("sample", "next", *arguments)


def test_a_tokenizer_without_eos_cannot_stop_there(runs, tmp_path):
    (tiny,) = runs.glob("tiny-*")
    run = tmp_path / "run"
    shutil.copytree(tiny, run)
    tokenizer = load_tokenizer(run / "tokenizer.json")
    special = attrs.evolve(tokenizer.special, bos=None, eos=None)
    attrs.evolve(tokenizer, special=special).save(run / "tokenizer.json")
    said = refused("sample", run, "--set", "sampler.eos=stop")
    assert "no such token; expected --set sampler.eos=keep" in said
    assert "[EOS]: the tokenizer" in refused("sample", run, "--template", "a[MASK][EOS]")
