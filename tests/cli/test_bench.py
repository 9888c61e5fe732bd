"""`mdmkit bench` as it is typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import changed, mdmkit, refused

SHORT = (
    "--steps",
    2,
    "--warmup",
    2,
    "--device",
    "cpu",
    "--machine-seconds",
    0.05,
    *changed("train.steps=50"),
)


def test_it_prints_tables_and_writes_what_it_is_told_to(
    recipe: Path, home: Path, tmp_path: Path
) -> None:
    out, trace = tmp_path / "bench.json", tmp_path / "trace.json"
    said = mdmkit("bench", recipe, *SHORT, "--out", out, "--profile", trace)
    assert said.code == 0, said.err
    assert re.fullmatch(r"tiny \([0-9a-f]{8}\) · real text · 1 × cpu \(.+\)", said.lines[0])
    for row in (
        r"  tokens/s +[\d.]+[kM]?",
        r"  model FLOP utilisation +[\d.]+% of the measured peak",
        r"  peak memory +[\d.]+ [kMG]?B \(.+\)",
        r"  forward +[\d.]+ m?s +[\d.]+%",
        r"  optimizer +[\d.e-]+ +[\d.]+ m?s +memory +[\d.]+ m?s +[\d.]+%",
        r"  0 +float32 matrix product 512 +[\d.e+]+ GFLOP/s +[\d.e+]+ GFLOP/s",
        r"  aten::\w+ +[\d.]+ +[\d.e-]+ m?s +\[.+\]",
    ):
        assert any(re.fullmatch(row, line) for line in said.lines), row
    assert "without validation, checkpoints" in said.lines[-1]
    assert json.loads(out.read_text())["text"] == "real"
    assert "aten::mm" in {
        event.get("name") for event in json.loads(trace.read_text())["traceEvents"]
    }
    assert sorted(tmp_path.iterdir()) == [out, trace]
    assert not (home / "runs").exists()


def test_json_and_nothing_else(recipe: Path) -> None:
    said = mdmkit("bench", recipe, *SHORT, "--synthetic", "--json")
    plain = json.loads(said.out)
    assert plain["text"] == "synthetic"
    assert plain["step"]["count"] == 2


def test_mistakes_are_said_before_anything_is_measured(recipe: Path, tmp_path: Path) -> None:
    assert "[train] steps: the recipe has 12, this bench takes" in refused("bench", recipe)
    nowhere = tmp_path / "no" / "bench.json"
    said = refused("bench", recipe, "--out", nowhere)
    assert said == f"{nowhere}: its folder is not there; make it, or choose another\n"
    assert "--find-batch: needs a CUDA device" in refused("bench", recipe, *SHORT, "--find-batch")
    assert "device:" in refused("bench", recipe, *SHORT, "--device", "tpu")


@pytest.mark.slow
def test_several_ranks_report_once(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    words = [str(word) for word in ("bench", recipe, *SHORT, "--out", out)]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "mdmkit", *words],
        capture_output=True, check=False, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("phases of a step") == 1
    plain = json.loads(out.read_text())
    assert plain["devices"] == len(plain["machines"]) == len(plain["memory"]) == 2
    assert plain["profile"]["communication"] > 0
    assert plain["sizes"]["updated_parameters"] < plain["sizes"]["parameters"]
    assert any("communication" in note for note in plain["notes"])


def test_a_recipe_that_logs_less_often_than_a_bench_has_steps(recipe: Path) -> None:
    said = mdmkit("bench", recipe, *SHORT, *changed("train.log_every=50"), "--synthetic", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["losses"] == {}


@pytest.mark.parametrize("option", ["--out", "--profile"])
def test_a_folder_for_a_file_is_refused_before_anything_is_measured(
    recipe: Path, tmp_path: Path, option: str
) -> None:
    err = refused("bench", recipe, *SHORT, option, tmp_path)
    assert f"{tmp_path}: cannot be written; give the name of a file" in err
