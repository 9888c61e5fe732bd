"""Suites: how protocol, sets, presets, sources and overrides come together, and every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdmkit.builtin.corpora import Hub, StateOfTheUnion, Text
from mdmkit.data.packing import PACKINGS, Packed, Wrapped
from mdmkit.errors import RecipeError
from mdmkit.plugins import load_catalogue
from mdmkit.suite_requests import select, shorthands
from mdmkit.suites import (
    dump_suite,
    is_suite,
    load_suite,
    suite_from_dict,
)

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})
SUITE = """
title = "Two sets"
[protocol]
packing = { use = "wrapped", eos = false }
evaluator = { use = "nelbo", draws = 2 }
[sets.union]
corpus = { use = "state_of_the_union" }
evaluator = { split = "test" }
[sets.hub]
corpus = { use = "hub", dataset = "owner/name" }
packing = { use = "packed" }
length = 32
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(SUITE)
    return tmp_path


def load(source: str = "two.toml", *overrides: str, **options):
    return load_suite(source, overrides, catalogue=CATALOGUE, **options)


def problems(source: str = "two.toml", *overrides: str, **options) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(source, *overrides, **options)
    return list(caught.value.problems)


def test_the_protocol_is_merged_into_every_set(here):
    suite = load()
    assert (suite.name, suite.title, suite.preset) == ("two", "Two sets", None)
    union, hub = suite.sets["union"], suite.sets["hub"]
    assert union.corpus == StateOfTheUnion()
    assert union.packing == Wrapped(eos=False)
    assert (union.evaluator.split, union.evaluator.draws) == ("test", 2)
    assert (union.length, union.detokenizer) == (None, None)
    assert hub.packing == Packed()  # another `use`: nothing of the protocol's table is left
    assert (hub.evaluator.split, hub.evaluator.draws, hub.length) == ("validation", 2, 32)


def test_what_is_unset_stays_unset(here):
    (here / "bare.toml").write_text('[sets.own]\nevaluator = {use = "nelbo"}\n')
    own = load("bare.toml").sets["own"]
    assert (own.corpus, own.packing, own.length, own.detokenizer) == (None, None, None, None)


def test_a_suite_extends_another_and_a_changed_use_resets_a_table(here):
    (here / "child.toml").write_text(
        'extends = "two.toml"\n[protocol.evaluator]\ndraws = 5\n'
        '[sets.union.packing]\nuse = "packed"\n[sets.hub.corpus]\nuse = "text"\ntest = "x.txt"\n'
    )
    suite = load("child.toml")
    assert suite.name == "child"
    assert {entry.evaluator.draws for entry in suite.sets.values()} == {5}
    assert suite.sets["union"].packing == Packed()
    assert suite.sets["hub"].corpus == Text(test="x.txt")


def test_the_components_of_the_protocol_count_when_a_set_is_extended(here):
    (here / "base.toml").write_text(
        '[protocol]\npacking = {use = "wrapped"}\nevaluator = {use = "nelbo"}\n'
        "[sets.a]\npacking = {eos = false}\n"
    )
    (here / "child.toml").write_text(
        'extends = "base.toml"\n[sets.a]\npacking = {use = "packed", bos = true}\n'
    )
    assert load("child.toml").sets["a"].packing == Packed(bos=True)  # eos is forgotten


def test_overrides_have_the_last_word_and_a_sets_own_keys_win_over_the_protocols(here):
    suite = load("two.toml", "protocol.evaluator.draws=7", "sets.hub.evaluator.draws=9",
                 "protocol.evaluator.split=train")  # fmt: skip
    union, hub = suite.sets["union"].evaluator, suite.sets["hub"].evaluator
    assert (union.draws, union.split) == (7, "test")
    assert (hub.draws, hub.split) == (9, "train")


def test_a_preset_is_laid_over_the_protocol(here):
    (here / "mine.toml").write_text(
        "[protocol]\npacking = {eos = true}\nevaluator = {draws = 1, split = 'train'}\n"
    )
    suite = load(preset="mine.toml")
    union, hub = suite.sets["union"], suite.sets["hub"]
    assert suite.preset == "mine"
    assert union.packing == Wrapped(eos=True)
    assert (union.evaluator.draws, union.evaluator.split) == (1, "test")
    assert (hub.packing, hub.evaluator.split) == (Packed(), "train")


def test_a_preset_holds_a_protocol_alone(here):
    (here / "bad.toml").write_text("[sets.union]\nlength = 3\n")
    assert problems(preset="bad.toml") == [
        "bad.toml: sets: a preset holds nothing but title and [protocol]"
    ]
    assert problems(preset="mdml")[0].startswith('no shipped preset "mdml"')


def test_a_source_goes_to_the_corpus_or_replaces_it(here):
    suite = load(sources={"union": "u.txt", "hub": here / "copy"})
    text = str(here / "u.txt")
    assert suite.sets["union"].corpus == Text(train=text, validation=text, test=text)
    assert suite.sets["hub"].corpus == Hub(dataset="owner/name", path=str(here / "copy"))
    changed = load(
        "two.toml", "sets.union.corpus.document=line", sources={"union": "u.txt"}
    )  # overrides come after
    assert changed.sets["union"].corpus.document == "line"
    assert problems(sources={"hbu": "x"}) == [
        '--source: there is no set "hbu"; did you mean "hub"? known: union, hub'
    ]


def test_every_problem_is_said_at_once_where_it_is_to_be_mended(here):
    (here / "bad.toml").write_text("title = 3\n[protocl]\n[sets.union]\n")
    assert problems("bad.toml") == [
        "bad.toml: protocl: unknown key; did you mean protocol?",
        "bad.toml: title: expected a string, got the integer 3",
    ]
    (here / "bad.toml").write_text(
        '[protocol]\npacking = {use = "wrapd"}\nevaluator = {use = "nelbo", drwas = 2}\n'
        '[sets.a]\ncorpus = {use = "hub"}\nlenght = 3\n'
        '[sets.b]\nlength = 1\nevaluator = {split = "tset"}\n'
        '[sets."c/d"]\ncorpus = {use = "txt"}\n'
    )
    assert problems("bad.toml") == [
        'bad.toml: [sets."c/d"]: expected letters, digits and . _ -, with a letter or digit '
        'first; got the string "c/d"',
        "bad.toml: [sets.a] lenght: unknown key; did you mean length?",
        "bad.toml: [sets.a.corpus] dataset: missing; expected a string",
        'bad.toml: [protocol.packing] use: no packing "wrapd"; did you mean "wrapped"? '
        f"known: {', '.join(sorted(PACKINGS))}",
        'bad.toml: [protocol.evaluator] drwas: unknown key for "nelbo"; did you mean draws?',
        "bad.toml: [sets.b] length: expected a value >= 2, got 1",
        'bad.toml: [sets.b.evaluator] split: expected "train" or "validation" or "test", got the '
        'string "tset"; did you mean "test"?',
        'bad.toml: [sets."c/d".corpus] use: no corpus "txt"; did you mean "text"? known: '
        + ", ".join(CATALOGUE.of("mdmkit_corpora")),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing; expected a table"),
        ("sets = 3", "sets: expected a table, got the integer 3"),
        ("[sets]", "[sets]: is empty; expected at least one set"),
        ("sets = {a = 3}", "[sets] a: expected a table, got the integer 3"),
        ("protocol = 3\n[sets.a]", "protocol: expected a table, got the integer 3"),
        ("[sets.a]", "[sets.a.evaluator]: missing; expected a table whose use names an evaluator"),
        ("[sets.a]\nevaluator = {draws = 2}", "use: missing; expected the name of an evaluator"),
        ("[sets", "bad.toml: not valid TOML"),
        ('extends = "bad.toml"\n[sets.a]', "goes in a circle"),
    ],
)
def test_files_that_are_no_suite(here, text, words):
    (here / "bad.toml").write_text(text)
    (line, *_) = problems("bad.toml")
    assert line.startswith("bad.toml: ")
    assert words in line


def test_names_that_are_none(here):
    assert problems("tow")[0].startswith('no shipped suite "tow"')
    assert problems("tow.toml") == ["tow.toml: there is no such file"]
    assert problems(str(here)) == [f"{here}: is a folder, expected a suite file"]
    (here / "odd name.toml").write_text(SUITE)
    assert "the name of a suite names a file" in problems("odd name.toml")[0]


def test_plain_data_and_back(here):
    suite = load(sources={"union": "u.txt"})
    plain = dump_suite(suite, CATALOGUE)
    assert plain["sets"]["hub"]["evaluator"]["use"] == "nelbo"
    assert suite_from_dict(plain, "x.json", catalogue=CATALOGUE) == suite
    with pytest.raises(RecipeError, match=r"x\.json: \[sets\.hub\] odd: unknown key"):
        suite_from_dict(
            plain | {"sets": {"hub": plain["sets"]["hub"] | {"odd": 1}}},
            "x.json",
            catalogue=CATALOGUE,
        )


def test_options_of_all_evaluators_at_once(here):
    suite = load()
    overrides = shorthands(suite, {"draws": 4, "split": "test", "blocks": None})
    again = load("two.toml", *overrides)
    assert [(e.evaluator.draws, e.evaluator.split) for e in again.sets.values()] == [
        (4, "test"), (4, "test"),
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="--nothing: none of the evaluators of suite two has an"):
        shorthands(suite, {"nothing": 1})


def test_some_sets(here):
    suite = load()
    assert list(select(suite, ["hub"]).sets) == ["hub"]
    assert list(select(suite, ["hub", "union"]).sets) == ["union", "hub"]
    with pytest.raises(RecipeError, match=r'--only: there is no set "hab"; did you mean "hub"'):
        select(suite, ["hab"])


def test_what_is_a_suite(here):
    (here / "recipe.toml").write_text('[run]\nname = "x"\n')
    assert is_suite("two.toml")
    assert not is_suite("recipe.toml")
    assert not is_suite("quickstart_bell")


# --- what is shipped -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mdlm", "duo", "bd3lm"])
def test_a_shipped_preset_is_one_draw_by_time_on_every_set(name):
    suite = load("zero_shot", preset=name)
    assert suite.preset == name
    for entry in suite.sets.values():
        assert entry.packing == Wrapped(
            eos=name == "mdlm", score_bos=name != "bd3lm", separator="bos"
        )
        found = entry.evaluator
        assert (found.estimator, found.sampling_eps, found.draws) == ("time", 1e-3, 1)
    assert {e.evaluator.split for e in suite.sets.values()} == {"validation", "test"}
    ours = load("zero_shot").sets["ptb"]
    assert ours.evaluator.estimator != "time"
    assert ours.packing == Wrapped(eos=True)


def test_a_preset_leaves_other_evaluators_and_own_packings_alone():
    assert load("downstream", preset="mdlm").sets["piqa"].evaluator == (
        load("downstream").sets["piqa"].evaluator
    )
    lm1b = load("lm1b", preset="mdlm").sets
    assert lm1b["sentences"].packing == load("lm1b").sets["sentences"].packing
    assert lm1b["packed"].packing == Wrapped(separator="bos")


def test_one_file_is_the_split_that_the_evaluator_reads(here):
    (here / "x.jsonl").write_text("{}")
    (here / "folder").mkdir()
    suite = load("zero_shot", sources={"lm1b": "x.jsonl", "ptb": "x.jsonl", "arxiv": "folder"})
    sets = suite.sets
    assert (sets["lm1b"].corpus.file_split, sets["ptb"].corpus.file_split) == (
        "test", "validation",
    )  # fmt: skip
    assert sets["lm1b"].corpus.path == str(here / "x.jsonl")
    assert sets["arxiv"].corpus.path == str(here / "folder")
    task = load("downstream", sources={"piqa": "x.jsonl"}).sets["piqa"]
    assert (task.corpus, task.evaluator.path) == (None, str(here / "x.jsonl"))
