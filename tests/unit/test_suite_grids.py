"""Grids: how one table becomes many sets, and every mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
[protocol]
length = 16
evaluator = { use = "generative_perplexity", n = 4 }
[sets.alone]
evaluator = { use = "nelbo" }
[grids.cached]
evaluator = { sampler = { use = "cached", top_p = 0.9 } }
[grids.cached.vary]
"evaluator.sampler.steps" = [8, 16]
"evaluator.sampler.temperature" = [0.5, 1.0]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.toml").write_text(SUITE)
    return tmp_path


def load(*overrides: str, source: str = "two.toml", **options):
    return load_suite(source, overrides, catalogue=CATALOGUE, **options)


def problems(text: str) -> list[str]:
    Path("bad.toml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load(source="bad.toml")
    return [line.removeprefix("bad.toml: ") for line in caught.value.problems]


def test_every_combination_is_a_set_with_the_protocol_merged_in(here):
    suite = load()
    found = {label: entry.evaluator for label, entry in suite.sets.items() if label != "alone"}
    assert {label: (e.sampler.steps, e.sampler.temperature) for label, e in found.items()} == {
        "cached-steps8-temperature0.5": (8, 0.5),
        "cached-steps8-temperature1.0": (8, 1.0),
        "cached-steps16-temperature0.5": (16, 0.5),
        "cached-steps16-temperature1.0": (16, 1.0),
    }
    assert list(suite.sets) == ["alone", *found]
    assert {(e.n, e.sampler.top_p) for e in found.values()} == {(4, 0.9)}
    assert {entry.length for entry in suite.sets.values()} == {16}
    grid = suite.grids["cached"]
    assert grid.varied == ("evaluator.sampler.steps", "evaluator.sampler.temperature")
    assert list(grid.sets["cached-steps16-temperature0.5"].values()) == [16, 0.5]
    assert suite.table_of("cached-steps8-temperature0.5") == ("grids", "cached")
    assert suite.tables == ["alone", "cached"]


def test_what_is_kept_are_plain_sets(here):
    suite = load()
    plain = dump_suite(suite, CATALOGUE)
    assert "grids" not in plain
    again = suite_from_dict(plain, "x.json", catalogue=CATALOGUE)
    assert again.sets == suite.sets
    assert again.grids == {}


def test_overrides_change_a_grid_and_what_it_varies(here):
    suite = load(
        'grids.cached.vary."evaluator.sampler.steps"=[4]',
        "grids.cached.evaluator.n=9",
        "protocol.evaluator.split=train",
    )
    assert [label for label in suite.sets if label != "alone"] == [
        "cached-steps4-temperature0.5",
        "cached-steps4-temperature1.0",
    ]
    first = suite.sets["cached-steps4-temperature0.5"].evaluator
    assert (first.n, first.split) == (9, "train")


def test_labels_are_unlike_whatever_is_varied(here):
    (here / "odd.toml").write_text(
        '[grids.g]\nevaluator = {use = "generative_perplexity"}\n[grids.g.vary]\n'
        '"evaluator.sampler" = [{use = "cached"}, {use = "ancestral", min_steps = 2}]\n'
        '"evaluator.sampler.steps" = [2]\n'
        '"evaluator.judge.run" = ["a b", "a_b"]\n"evaluator.allow_float32" = [true, false]\n'
    )
    suite = load(source="odd.toml")
    assert next(iter(suite.sets)) == "g-sampler_cached-steps2-run_1-allow_float32_true"
    assert list(suite.sets)[-1] == "g-sampler_ancestral-steps2-run_2-allow_float32_false"
    last = suite.sets["g-sampler_ancestral-steps2-run_2-allow_float32_false"].evaluator
    assert (last.sampler.steps, last.sampler.min_steps, last.judge.run) == (2, 2, "a_b")
    (here / "odd.toml").write_text(
        '[grids.g]\nevaluator = {use = "nelbo"}\n[grids.g.vary]\n'
        '"evaluator.draws" = [1]\n"packing.use" = ["padded"]\n"corpus.use" = ["state_of_the_union"]'
    )
    (label,) = load(source="odd.toml").sets
    assert label == "g-draws1-packing.use_padded-corpus.use_state_of_the_union"


def test_every_mistake_is_said_at_once_with_its_place(here):
    vary = SUITE.replace("sampler.steps", "sampler.stpes").replace("[0.5, 1.0]", "[-1, 0.5]")
    first, *others = problems(
        vary + '"evaluator.n" = [1, "x"]\n[protocol.packing]\nuse = "wrapd"\n'
    )
    assert first.startswith('[protocol.packing] use: no packing "wrapd"')
    assert sorted(others) == [
        '[grids.cached.vary] "evaluator.n": expected a value >= 2, got 1',
        '[grids.cached.vary] "evaluator.n": expected an integer, got the string "x"',
        '[grids.cached.vary] "evaluator.sampler.stpes": unknown key for "cached"; did you mean '
        "steps?",
        '[grids.cached.vary] "evaluator.sampler.temperature": expected a value >= 0, got -1',
    ]
    assert problems(f'{SUITE}"evaluator.sampler.top_p.x" = [1]\n') == [
        '[grids.cached.vary] "evaluator.sampler.top_p.x": goes through evaluator.sampler.top_p, '
        "which is the number 0.9"
    ]


GRID = '[grids.g]\nevaluator = {use = "nelbo"}\n'
VARY = f"{GRID}[grids.g.vary]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GRID, "[grids.g.vary]: missing; expected a table of values"),
        (f"{GRID}vary = 3", "[grids.g.vary]: got the integer 3; expected a table"),
        (VARY, "[grids.g.vary]: is empty; expected a table"),
        (f'{VARY}"length" = []', "[grids.g.vary] length: is empty; expected at least one value"),
        (f'{VARY}"length" = 8', "length: expected an array of values, got the integer 8"),
        (f"{VARY}evaluator.draws = [8]", "got a table; a dotted path is quoted"),
        (f'{VARY}"length" = [8, 9, 8]', "length: 8 is there 2 times; expected it once"),
        (SUITE.replace("[0.5, 1.0]", "[1, 1.0]"), "[grids.cached.vary]: cached-steps8-temperature1 "
         "and cached-steps8-temperature1.0 are the same set; expected each value once"),
        (f'{VARY}"a b" = [8]', '"a b": expected the dotted path of an option'),
        (f'{VARY}"lenght" = [8]', "lenght: unknown key; did you mean length?"),
        (f"{VARY}length = [{','.join(map(str, range(2, 1003)))}]", "makes 1,001 sets; expected"),
        ('[grids."a b"]\nvary = {length = [8]}\n', '[grids."a b"]: expected letters, digits'),
        (f"{VARY}length = [8]\n[sets.g-length8]\nevaluator = {{use = 'nelbo'}}",
         "[grids.g]: one of its sets is called g-length8, as is one of [sets.g-length8]"),
        ("[grids]", "[sets]: missing; expected a table of at least one set, or [grids]"),
        ("grids = {a = 3}", "[grids] a: expected a table, got the integer 3"),
    ],
)  # fmt: skip
def test_files_that_are_no_grid(here, text, words):
    assert any(words in line for line in problems(text))


def test_some_sets_by_pattern(here):
    suite = load()
    assert list(select(suite, ["*-temperature1.0", "alone"]).sets) == [
        "alone",
        "cached-steps8-temperature1.0",
        "cached-steps16-temperature1.0",
    ]
    assert list(select(suite, ["cached"]).sets) == list(suite.grids["cached"].sets)
    with pytest.raises(
        RecipeError, match=r'--only: there is no set "ar-\*"; known: alone, cached$'
    ):
        select(suite, ["ar-*"])


def test_options_and_sources_of_all_sets_of_a_grid(here):
    suite = load()
    overrides = shorthands(suite, {"split": "train", "judge": {"run": "other"}})
    again = load(*overrides)
    assert {entry.evaluator.split for entry in again.sets.values()} == {"train"}
    judges = {e.evaluator.judge.run for label, e in again.sets.items() if label != "alone"}
    assert judges == {"other"}
    text = load(sources={"cached": "x.txt"}).sets["cached-steps8-temperature0.5"].corpus
    assert text.test == str(here / "x.txt")
    (here / "varied.toml").write_text(
        '[grids.g]\nevaluator = {use = "nelbo"}\nvary = {"evaluator.draws" = [1, 2]}\n'
    )
    assert is_suite("varied.toml")
    with pytest.raises(RecipeError, match=r"--draws: \[grids.g\] varies it"):
        shorthands(load(source="varied.toml"), {"draws": 3})


def test_an_option_of_all_sets_replaces_the_table_of_the_file(here):
    (here / "judged.toml").write_text(
        '[protocol]\nevaluator = {use = "generative_perplexity", '
        'judge = {model = "m", revision = "r"}}\n[sets.b]\n'
        '[grids.g]\nevaluator = {judge = {dtype = "bfloat16"}}\nvary = {length = [8, 16]}\n'
    )
    short = shorthands(load(source="judged.toml"), {"judge": {"run": "x"}})
    sets = load(*short, source="judged.toml", replacing=["judge"]).sets.values()
    judges = [entry.evaluator.judge for entry in sets]
    assert [(j.run, j.model, j.revision, j.dtype) for j in judges] == [("x", None, None, None)] * 3


@pytest.mark.parametrize(
    "varied", ['"evaluator.judge.run" = ["a", "b"]', '"evaluator" = [{n = 3}, {n = 4}]']
)
def test_an_option_of_all_sets_that_a_grid_varies_in_part_or_as_part(here, varied):
    (here / "varied.toml").write_text(
        f'[protocol]\nevaluator = {{use = "generative_perplexity"}}\n[grids.g.vary]\n{varied}\n'
    )
    with pytest.raises(RecipeError, match=r"--judge: \[grids.g\] varies it"):
        shorthands(load(source="varied.toml"), {"judge": {"run": "x"}})


def test_a_grid_is_extended_and_a_changed_sampler_resets_its_table(here):
    (here / "child.toml").write_text(
        'extends = "two.toml"\n[grids.cached.evaluator.sampler]\nuse = "ancestral"\n'
        "[grids.cached.evaluator]\nn = 8\n"
    )
    found = load(source="child.toml").sets["cached-steps8-temperature0.5"].evaluator
    assert (type(found.sampler).__name__, found.sampler.top_p, found.n) == ("Ancestral", 1.0, 8)
