"""Two processes that evaluate together find what one finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..cli.commands import mdmkit
from ..unit.evaluation.runs import make_run

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

WORKER = """
import json, os, sys
import torch, torch.distributed as dist

torch.set_num_threads(1)
from mdmkit.builtin.evaluators import Nelbo
from mdmkit.evaluation.driver import run_evaluation
from mdmkit.testing import evaluation_context

rank, size, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
context = evaluation_context(rank=rank, world_size=size)
found = run_evaluation(Nelbo(draws=3, precision=0.02), context)
print(json.dumps(found.to_json()))
if size > 1:
    dist.destroy_process_group()
"""


def evaluate(size: int, place: Path) -> list[dict]:
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(rank), str(size), str(place)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size
    return [json.loads(output) for output in outputs]


def test_two_ranks_find_what_one_finds(tmp_path):
    (alone,) = evaluate(1, tmp_path / "one")
    both = evaluate(2, tmp_path / "two")
    assert both[0] == both[1]
    for name, number in alone["measurements"].items():
        found = both[0]["measurements"][name]
        assert abs(found["value"] - number["value"]) < 1e-6 * number["value"]
        assert abs(found["stderr"] - number["stderr"]) < 1e-5 * number["stderr"]
    for fact in ("tokens_scored", "draws", "wanted_precision"):
        assert alone["provenance"][fact] == both[0]["provenance"][fact]
    assert alone["provenance"]["draws"] > 3  # both drew on until it was precise enough


# --- a saved run, by the command -----------------------------------------------------------

COMMAND = """
import sys
import torch.distributed.checkpoint  # before the process group: it warns when imported after
from mdmkit.cli import main

sys.exit(main(sys.argv[1:]))
"""
SUITE = """
[protocol]
evaluator = { use = "nelbo", split = "test", draws = 3 }
[sets.own]
[sets.lines]
corpus = { use = "text", test = "lines.txt" }
packing = { use = "wrapped" }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("".join(f"{n}, {n + 1} and {n + 2}\n" for n in range(60)))
    Path("two.toml").write_text(SUITE)
    return make_run(tmp_path)


def on_two(*arguments):
    """What ``torchrun --nproc-per-node 2 -m mdmkit ARGUMENTS…`` leaves."""
    Path("command.py").write_text(COMMAND)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "command.py"]
    return subprocess.run(
        [sys.executable, *launch, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def numbers(plain):
    return {
        (label, name, part): number[part]
        for label, found in plain.items()
        for name, number in found["measurements"].items()
        for part in ("value", "stderr")
    }


def test_two_processes_evaluate_a_run_like_one(run):
    alone = json.loads(mdmkit("eval", run, "--json").out)
    done = on_two("eval", run, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads(done.stdout)  # rank 0 alone has printed
    assert numbers(both) == pytest.approx(numbers(alone), rel=1e-9)
    assert {found["provenance"]["ranks"] for found in both.values()} == {2}
    assert done.stderr.count("nelbo.json: replaced") == 1


def test_two_processes_measure_a_suite_like_one(run):
    alone = json.loads(mdmkit("eval", run, "--suite", "two.toml", "--json").out)["sets"]
    path = run / "eval" / "two.json"
    path.unlink()
    mdmkit("eval", run, "--suite", "two.toml", "--only", "own")
    done = on_two("eval", run, "--suite", "two.toml", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads(done.stdout)["sets"]
    assert numbers(both) == pytest.approx(numbers(alone), rel=1e-9)
    assert [found["provenance"]["ranks"] for found in both.values()] == [1, 2]  # one was kept
    assert done.stderr.count("own: kept") == 1
    again = mdmkit("eval", "--replay", path)  # by one process
    assert again.code == 0
    assert "lines: ranks: 2 -> 1" in again.out


def test_what_is_missing_ends_all_processes_and_is_said_once(run):
    Path("lines.txt").unlink()
    done = on_two("eval", run, "--suite", "two.toml")
    assert done.returncode != 0
    assert done.stderr.count("1 of 2 sets cannot be had") == 1
    assert not (run / "eval").exists()
