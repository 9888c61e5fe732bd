from __future__ import annotations

import json
import re

import pytest

from mdmkit.cli import main

from ..unit.evaluation.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        make_run(folder)
        yield folder / "runs"


def said(capsys, *arguments, status=0):
    found = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert found == status, err
    return out, err


def test_eval_prints_a_table_and_writes_the_numbers(runs, capsys):
    out, err = said(capsys, "eval", "tiny", "--checkpoint", 3, "--no-ema")
    assert "nelbo · split validation" in out
    assert "twice · split test" in out
    assert "step 3, no EMA" in out
    assert "nats/token" in out
    assert "eval/nelbo.json: written" in err
    assert (next(runs.iterdir()) / "eval" / "twice.json").exists()


def test_eval_in_json_is_json_alone(runs, capsys):
    arguments = (
        "--split",
        "train",
        "--draws",
        2,
        "--seed",
        3,
        "--set",
        "evaluators.nelbo.blocks=4",
    )
    out, _ = said(capsys, "eval", "tiny", "--json", *arguments)
    found = json.loads(out)
    assert list(found) == ["nelbo", "twice"]
    told = found["nelbo"]["provenance"]
    assert (told["split"], told["draws"], told["seed"], told["blocks"]) == ("train", 2, 3, 4)
    assert found["nelbo"]["measurements"]["ppl"]["stderr"] > 0


def test_sample_prints_texts(runs, capsys):
    out, _ = said(capsys, "sample", "tiny", "-n", 2, "--steps", 3, "--prompt", "line ")
    assert "sample 0 · seed 0" in out
    assert "sample 1 · seed 0" in out
    assert "line " in out


def test_sample_in_json_is_reproducible(runs, capsys):
    arguments = ("sample", "tiny", "--json", "-n", 2, "--seed", 4, "--set", "sampler.steps=3")
    first, _ = said(capsys, *arguments)
    again, _ = said(capsys, *arguments, "--batch-size", 1)
    texts = json.loads(first)
    assert [text["row"] for text in texts] == [0, 1]
    assert texts[0]["provenance"]["sampler"]["steps"] == 3
    assert [text["ids"] for text in texts] == [text["ids"] for text in json.loads(again)]


def test_sample_writes_a_new_file_and_never_over_an_old_one(runs, capsys, tmp_path):
    path = tmp_path / "texts.jsonl"
    arguments = ("sample", "tiny", "-n", 2, "--steps", 2, "--length", 8, "--out", path)
    out, err = said(capsys, *arguments)
    assert out == ""
    assert "2 texts written" in err
    assert re.search(r"^2 texts: 16 tokens generated in .* tokens/s\), 2 network calls$", err, re.M)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line["ids"]) for line in lines] == [8, 8]
    before = path.read_bytes()
    _, err = said(capsys, *arguments, status=2)
    assert "exists already" in err
    assert path.read_bytes() == before
    _, err = said(capsys, *arguments[:-1], tmp_path / "no" / "x.jsonl", status=2)
    assert "there is no folder" in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("eval", "tyni"), 1, 'run "tyni": no such run directory'),
        (("eval", "tiny", "--checkpoint", "4"), 1, "step 4"),
        (("eval", "tiny", "--set", "evaluators.nelbo.split=tset"), 2, "[evaluators.nelbo] split"),
        (("eval", "tiny", "--draws", "0"), 2, "draws: expected a value >= 1"),
        (("eval", "tiny", "--set", "data.length=8"), 2, "[data] is fixed"),
        (("sample", "tiny", "--length", "99"), 2, "length: expected 1 to 16"),
        (("sample", "tiny", "--set", "sampler.use=autoregressive"), 2, "[sampler]"),
        (("sample", "tiny", "--device", "gpu"), 2, "device: expected auto"),
    ],
)
def test_mistakes_are_one_clear_message(runs, capsys, arguments, status, words):
    out, err = said(capsys, *arguments, status=status)
    assert words in err
    assert "Traceback" not in err
    assert out == ""
