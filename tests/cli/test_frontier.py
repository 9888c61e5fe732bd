"""``mdmkit eval --suite`` with grids: which sets a run gets, tables, files, errors, replay."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from mdmkit.errors import CheckpointError
from mdmkit.evaluation.judges import judge_table

from ..unit.evaluation.runs import make_run
from .commands import mdmkit, refused

AR = '[objective]\nuse = "autoregressive"\n[sampler]\nuse = "autoregressive"\n'
SUITE = """
title = "Small"
[protocol]
evaluator = { use = "generative_perplexity", n = 4 }
[sets.few_step]
evaluator = { use = "few_step", blocks = 4, points = 4, steps = [2, 4] }
[grids.cached]
evaluator = { sampler = { use = "cached" } }
[grids.cached.vary]
"evaluator.sampler.steps" = [2, 4]
"evaluator.sampler.temperature" = [0.5, 1.0]
[grids.ar]
evaluator = { sampler = { use = "autoregressive" } }
vary = { "evaluator.sampler.temperature" = [0.5, 1.0] }
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        patch.setenv("MDMKIT_PLUGINS", "none")
        for name, extra in (("masked", ""), ("next", AR)):
            (folder / name).mkdir()
            run = make_run(folder / name, extra=extra, steps=(6,))
            shutil.copytree(run, folder / "runs" / name)
        shutil.copytree(folder / "runs" / "next", folder / "runs" / "critic")
        yield folder


@pytest.fixture(autouse=True)
def here(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in (home / "runs").iterdir():
        shutil.rmtree(run / "eval", ignore_errors=True)
    Path("small.toml").write_text(SUITE)
    return tmp_path


EVAL = ("eval", "masked", "next", "--suite", "small.toml", "--judge", "critic")


def test_masked_and_autoregressive_runs_get_their_own_sets_and_one_frontier(home, here):
    said = mdmkit(*EVAL)
    assert said.code == 0, said.err
    assert "ar: left out, not for this kind of run" in said.err
    assert "few_step, cached: left out, not for this kind of run" in said.err
    lines = said.lines
    masked, ar = (lines.index(f"run {name}") for name in ("masked", "next"))
    header = lines[masked + 1].split()
    assert header[:4] == ["sampler", "steps", "temperature", "calls"]
    rows = [line.removeprefix("  *").split() for line in lines[masked + 2 : masked + 6]]
    assert [row[:4] for row in rows] == [
        ["cached", "2", "0.5", "2"], ["cached", "2", "1.0", "2"],
        ["cached", "4", "0.5", "4"], ["cached", "4", "1.0", "4"],
    ]  # fmt: skip
    assert lines[masked + 6].split()[:2] == ["real", "text"]
    assert lines[ar + 2].removeprefix("  *").split()[:3] == ["autoregressive", "(ar)", "0.5"]
    assert "the error of few steps" in lines
    assert any(line.split()[:1] == ["few_step"] for line in lines)
    again = mdmkit(*EVAL, "--json", "--only", "*-temperature*,few_step")
    assert "few_step, cached: kept, for the same was measured before" in again.err
    plain = json.loads(again.out)
    assert (plain["kind"], len(plain["texts"]), len(plain["runs"])) == ("mdmkit frontier", 6, 2)
    assert list(plain["real"]) == ["masked", "next"]
    assert [row["steps"] for row in plain["few_steps"]] == [2, 4]
    kept = json.loads((home / "runs" / "masked" / "eval" / "small.json").read_text())
    assert plain["runs"][0] == kept
    assert list(kept["suite"]) == ["name", "title", "sets"]
    assert kept["suite"]["sets"]["cached-steps2-temperature0.5"]["evaluator"]["judge"] == {
        "run": "critic"
    }


def test_a_place_that_cannot_be_is_told_before_anything_is_measured(here, home, monkeypatch):
    Path("file").touch()
    arguments = ("eval", "masked", *EVAL[3:], "--out")
    assert "--out: out.json is the name of a file; expected a folder" in refused(
        *arguments, "out.json"
    )
    assert "--out: file is a file; expected a folder" in refused(*arguments, "file/deep")
    monkeypatch.setattr("mdmkit.report.frontier_files.find_spec", lambda _: None)
    assert "the pictures need matplotlib: pip install 'mdmkit[plot]'" in refused(*arguments, "out")
    assert not Path("out").exists()
    assert not (home / "runs" / "masked" / "eval").exists()


def test_files_of_a_preset_stand_beside_the_suites_own(here):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    Path("mine.toml").write_text("[protocol.evaluator]\nn = 2\n")
    arguments = ("eval", "masked", *EVAL[3:], "--preset", "mine.toml", "--out", "out", "--only")
    said = mdmkit(*arguments, "few_step")
    assert "out: nothing is written of suite small, for there is no frontier without" in said.err
    said = mdmkit(*arguments, "cached-steps2-temperature0.5")
    assert said.code == 0, said.err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "small-mine.json", "small-mine.png", "small-mine.svg",
    ]  # fmt: skip


def test_a_file_of_a_grid_is_replayed(home):
    for _ in range(2):
        said = mdmkit("eval", "masked", *EVAL[3:], "--only", "cached-steps2-*")
    assert "cached (2 of 4): kept" in said.err
    path = home / "runs" / "masked" / "eval" / "small.json"
    said = mdmkit("eval", "--replay", path)
    assert said.code == 0, said.out
    assert said.lines[-1] == f"{path}: found again"


def test_who_judges(home, tmp_path):
    runs = home / "runs"
    beside = partial(judge_table, directory=runs / "masked", runs_dir=runs)
    assert beside("critic") == beside("run:critic") == {"run": "critic"}
    assert beside(str(runs / "critic")) == {"run": "critic"}
    assert beside("gpt2") == beside("model:gpt2") == {"model": "gpt2"}
    assert beside("model:critic") == {"model": "critic"}
    elsewhere = judge_table("critic", tmp_path / "masked", runs)
    assert elsewhere == {"run": str(runs / "critic")}
    shutil.copytree(runs / "critic", tmp_path / "near-1234")
    near = judge_table("near", tmp_path / "masked", runs)  # in no folder of runs
    assert near == judge_table("run:near", tmp_path / "masked", runs) == {"run": "near-1234"}
    with pytest.raises(CheckpointError, match='--judge: run "nobody": no such run'):
        beside("run:nobody")


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ("critc", '--judge critc: model critc: the Hugging Face hub cannot be reached: .* was not '
         r'fetched before \(nor is there a run of that name; did you mean "critic"\?\)$'),
        ("model:critc", "--judge model:critc: model critc: .* judge by a run of your own"),
        ("masked", '--judge masked: run: "masked" predicts "masked", from which'),
        ("empty", "--judge empty: model: empty: it has no config.json; expected"),
    ],
)  # fmt: skip
def test_who_cannot_judge_is_said_once(home, monkeypatch, judge, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "none")
    Path("empty").mkdir()
    said = refused("eval", "masked", "--suite", "small.toml", "--judge", judge)
    assert re.match(words, said)
    assert len(said.splitlines()) == 1  # not of each set


def test_sets_of_a_grid_that_cannot_be_had_share_their_reason(home):
    corpus = "grids.cached.corpus={use='text', test='gone.txt'}"
    said = refused("eval", "masked", *EVAL[3:], "--only", "cached", "--set", corpus)
    first, second, *_, last = said.splitlines()
    assert first == "suite small: 4 of 4 sets cannot be had:"
    assert second.startswith("  cached: grids.cached.corpus.test: ")
    assert said.count("gone.txt") == 1
    assert "give local files" in last
    assert ": --source cached=FILE; or" in last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("masked --suite small.toml", "suite small: [grids.cached], [grids.ar] evaluator.judge: "
         "missing; name who judges the text: --judge RUN"),
        ("masked --judge critic", "--judge: needs a suite"),
        ("masked --out out", "--out: needs a suite"),
        ("masked masked --suite small.toml --judge critic", "masked and masked are the same"),
        ("masked --suite small.toml --only ar-* --judge critic",
         "suite small: ar: not for this kind of run; expected"),
        ("masked --suite small.toml --judge critic --only ,", '--only: names no set, got ","'),
        ("masked --suite small.toml --only x-*", '--only: there is no set "x-*"'),
        ("masked --suite zero_shot_mini --out out", "--out: there are no grids in suite"),
        ("masked --suite zero_shot_mini --judge critic", "--judge: none of the evaluators of"),
        ("masked --suite small.toml --judge critic --only cached-steps2-temperature0.5 "
         "--set protocol.length=32", "trained on rows of 16 tokens, and this sampler makes none"),
        ("masked --suite small.toml --judge critic --set grids.cached.vary.x=[]",
         "--set: [grids.cached.vary] x: is empty"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(arguments, words):
    said = refused("eval", *arguments.split())
    assert words in said
    assert len(said.splitlines()) == 1
