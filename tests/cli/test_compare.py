from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mdmkit.report import comparison_files

from ..unit.comparison.synthetic import DOCUMENTS, curve, make_tokenizer, write_run
from .commands import mdmkit, refused

TEXT = [0.05 * (-1) ** number for number in range(DOCUMENTS)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: two seeds of a baseline, two of a method twice as fast, one that stops."""
    home = tmp_path_factory.mktemp("compare")
    make_tokenizer(home)
    folder, common = home / "runs", {"by_document": TEXT, "tokenizer": home}
    uniform = ["time_sampler.use=uniform"]
    for seed in (1, 2):

        def base(step: float, shift: float = 0.02 * seed) -> float:
            return curve(step) + shift

        def fast(step: float, shift: float = 0.02 * seed) -> float:
            return curve(step, speed=2) + shift - 0.001

        write_run(folder, "base", seed=seed, overrides=uniform, nelbo=base, **common)
        write_run(folder, "fast", seed=seed, nelbo=fast, **common)
    write_run(
        folder, "short", overrides=["time_sampler.width=0.4"], steps=range(0, 401, 50), **common
    )
    return folder


def test_the_tables(runs):
    said = mdmkit("compare", "base", "fast", "short", "--runs-dir", runs, "--resamples", 200)
    assert said.code == 0, said.err
    first = said.lines[0]
    assert first == "3 methods, 5 runs · 24 blocks × 1 draw · 12 documents · 200 resamples, seed 0"
    (row,) = [line for line in said.lines if re.match(r"  fast +final", line)]
    assert re.search(r"final +3\.030 +300 +600 +2\.00 \[2\.00, 2\.0", row)
    (row,) = [line for line in said.lines if re.match(r"  short +final", line)]
    assert "> 400" in row
    assert "< 1.50 (…, 1." in row
    assert "leaving the plateau: 0.1 below 5.030 (base, steps 50 to 200)" in said.out
    assert "no worse than base by more than 0.01 nats per token (one-sided, 95%)" in said.out
    assert re.search(r"fast +all +-0\.0010 ± \S+ .* shown +12 documents, 2 and 2 seeds", said.out)
    assert "stands at step 400 of 600; used as far as it goes" in said.out


def test_json_alone_with_provenance(runs):
    options = ("--baseline", "fast", "--json", "--resamples", 200, "--seed", 7)
    said = mdmkit("compare", runs, *options)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["baseline"] == "fast"
    assert [method["label"] for method in found["methods"]] == ["base", "fast", "short"]
    assert (found["settings"]["resamples"], found["settings"]["seed"]) == (200, 7)
    assert found["ground"]["data"]["corpus_fingerprint"] == "abc"
    assert {"mdmkit", "torch", "numpy"} <= set(found["environment"])
    run = found["methods"][0]["runs"][0]
    assert re.fullmatch(r"[0-9a-f]{8}", run["recipe_hash"])
    assert run["seed"] == 1


def test_files_of_numbers_and_pictures(runs, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    out = tmp_path / "made" / "anew"
    options = ("--runs-dir", runs, "--resamples", 200, "--out", out)
    said = mdmkit("compare", "base", "fast", "short", *options)
    assert said.code == 0, said.err
    names = ["compare.json", "curves.svg", "curves.png", "curves.html"]
    assert said.err.splitlines() == [f"{out / name}: written" for name in names]
    assert json.loads((out / "compare.json").read_text())["baseline"] == "base"
    svg = (out / "curves.svg").read_text()
    assert "<svg" in svg
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "curves.html").read_text()
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="?http', page)  # nothing is fetched
    assert "plotly.js v" in page
    for words in ("training FLOPs", "tokens seen", "seconds", "optimizer steps", "fast"):
        assert words in page
    assert "leaving the plateau" in page
    mdmkit("compare", "base", "fast", "short", *options)
    assert (out / "curves.svg").read_text() == svg


def test_pictures_of_a_single_method_and_of_cooled_points(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    shape = ["learning_rate.shape=wsd", "learning_rate.warmup_steps=5"]
    for budget in (100, 200):
        write_run(tmp_path / "runs", "m", directory=f"m{budget}", steps=(0, budget),
                  overrides=[*shape, f"train.steps={budget}"])  # fmt: skip
    said = mdmkit("compare", tmp_path / "runs", "--cooled", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert (tmp_path / "out" / "curves.html").exists()


def test_without_the_extra_the_numbers_are_written_all_the_same(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_files, "find_spec", lambda _name: None)
    out = tmp_path / "out"
    options = ("--runs-dir", runs, "--resamples", 200, "--out", out)
    said = refused("compare", "base", "fast", *options)
    assert "pip install 'mdmkit[plot]'" in said
    assert "matplotlib and plotly" in said
    assert json.loads((out / "compare.json").read_text())["baseline"] == "base"


def test_labels_and_learning_rates(runs):
    options = ("--runs-dir", runs, "--resamples", 200)
    said = mdmkit("compare", "base", "fast", "--label", "standard=base*", "--envelope", *options)
    assert said.code == 0, said.err
    assert "standard (baseline)" in said.out
    assert "the best learning rate at each budget" in said.out
    assert re.search(r"standard +0 to 600 +0\.002", said.out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("base", "none"), 1, 'run "none": no such run directory'),
        (("base", "--baseline", "bass"), 2, '--baseline: there is no method "bass"'),
        (("base", "--label", "x"), 2, '--label: expected NAME=PATTERN, got "x"'),
        (("base", "--margin", "-1"), 2, "margin: expected a number >= 0"),
    ],
)
def test_mistakes_are_one_clear_message(runs, arguments, code, words):
    assert words in refused("compare", *arguments, "--runs-dir", runs, code=code)


def test_neither_data_sets_nor_metrics_libraries_are_loaded(runs):
    code = (
        "import sys\nfrom mdmkit.cli import main\n"
        f"status = main(['compare', 'base', 'fast', '--runs-dir', {str(runs)!r}, '--json'])\n"
        "names = ('datasets', 'torchmetrics', 'matplotlib', 'plotly', 'scipy')\n"
        "loaded = [name for name in names if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
