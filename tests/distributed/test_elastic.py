"""Worlds that change: other numbers of ranks on resume, and ranks that die."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.training.checkpoint import load_weights, steps_on_disk
from mdmkit.training.distributed import _store
from mdmkit.training.run_directory import run_directory

pytestmark = pytest.mark.timeout(900)  # processes start slowly on a busy machine

FIGURES = ("train/loss", "train/grad_norm", "val/nelbo_per_token")

# Imports everything once and forks every rank from there, which saves some seconds for each.
FORKED = """
import os, socket, sys, traceback
import torch._dynamo, torchmetrics
import torch.distributed.checkpoint  # before the process group: it warns when imported after
import mdmkit.training.loop
from mdmkit import load_recipe, train

def world(size, recipe, runs_dir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = []
    for rank in range(size):
        pid = os.fork()
        if pid:
            ranks.append(pid)
            continue
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        code = 1
        try:
            train(load_recipe(recipe), runs_dir=runs_dir, device="cpu")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if any(os.waitpid(pid, 0)[1] for pid in ranks):
        raise SystemExit(f"a rank of {size} failed")

recipe, *worlds = sys.argv[1:]
for size, runs_dir in zip(worlds[::2], worlds[1::2]):
    world(int(size), recipe, runs_dir)
"""


def launch(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def light_recipe(tiny_recipe: Path) -> Path:
    """The tiny recipe with little to evaluate, and every checkpoint kept that matters here."""
    text, _, _ = tiny_recipe.read_text().partition("[evaluators.held_out]")
    few = "[train]\nvalidate_blocks = 8\nkeep_checkpoints = 1\nkeep_every = 4\n"
    tiny_recipe.write_text(text.replace("[train]\n", few))
    return tiny_recipe


def curve(run: Path) -> list[tuple[int, str, float]]:
    lines: list[dict[str, Any]] = read_metrics(run / "metrics.jsonl")
    return [(line["step"], name, line[name]) for line in lines for name in FIGURES if name in line]


def cut_to(run: Path, step: int, copies: Path) -> None:
    """A copy of `run`, in the folder of runs `copies`, whose last checkpoint is that of `step`."""
    copy = shutil.copytree(run, copies / run.name)
    for later in steps_on_disk(copy):
        if later > step:
            shutil.rmtree(copy / "checkpoints" / f"step-{later:08d}")
    assert steps_on_disk(copy)[-1] == step


def test_a_run_goes_on_with_more_or_fewer_ranks(light_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(light_recipe)
    (script := tmp_path / "forked.py").write_text(FORKED)
    on_one = train(recipe, runs_dir=tmp_path / "1").directory
    launch(script, light_recipe, 2, tmp_path / "2")
    on_two = run_directory(recipe, tmp_path / "2")
    cut_to(on_one, 4, tmp_path / "1 to 2")
    cut_to(on_two, 4, tmp_path / "2 to 1")
    cut_to(on_two, 8, tmp_path / "2 to 4")
    train(recipe, runs_dir=tmp_path / "2 to 1")
    launch(script, light_recipe, 2, tmp_path / "1 to 2", 4, tmp_path / "2 to 4")
    expected, weights = curve(on_one), load_weights(on_one).state
    assert len(expected) == 12 * 2 + 4
    for layout in ("2", "1 to 2", "2 to 1", "2 to 4"):
        run = run_directory(recipe, tmp_path / layout)
        found = curve(run)
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected], layout
        for (step, name, value), (*_, other) in zip(expected, found, strict=True):
            assert other == pytest.approx(value, rel=1e-5), (layout, step, name)
        for name, tensor in load_weights(run).state.items():
            assert tensor == pytest.approx(weights[name], rel=1e-3, abs=1e-6), (layout, name)


# Rank 1 dies in the middle of the second save, while rank 0 trains on.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch.distributed.checkpoint
import mdmkit.training.saving as saving
from mdmkit import load_recipe, train

recipe, runs_dir, mark = sys.argv[1:]
write, calls = saving.write_tensors, iter(range(100))

def dying(*args, **kwargs):
    if os.environ["RANK"] == "1" and next(calls) == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args, **kwargs)

saving.write_tensors = dying
train(load_recipe(recipe), runs_dir=runs_dir, device="cpu")
"""


def test_a_killed_rank_is_started_again_and_the_curve_is_the_same(
    light_recipe: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(light_recipe)
    (script := tmp_path / "killed.py").write_text(KILLED)
    (forked := tmp_path / "forked.py").write_text(FORKED)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    mark = tmp_path / "killed"
    launch(*torchrun, "--max-restarts=1", script, light_recipe, tmp_path / "killed runs", mark)
    assert mark.exists()
    launch(forked, light_recipe, 2, tmp_path / "whole")
    killed, whole = (run_directory(recipe, tmp_path / name) for name in ("killed runs", "whole"))
    assert curve(killed) == curve(whole)  # bitwise
    assert steps_on_disk(killed) == steps_on_disk(whole) == [4, 8, 12]
    assert not list((killed / "checkpoints").glob("[.b]*"))  # no left-overs, no damaged ones
    left, right = (load_file(run / "model.safetensors") for run in (killed, whole))
    assert all(torch.equal(right[name], tensor) for name, tensor in left.items())


def test_a_restarted_process_sees_nothing_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True)  # as torchrun keeps one
    around = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(kept.port), "RANK": "0"}
    around |= {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    _store().set("address of 1", "a dead process")
    assert _store().check(["address of 1"])
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not _store().check(["address of 1"])
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")  # each counts its own restarts
    seen = _store()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    seen.set("address of 1", "another machine")
    assert _store().check(["address of 1"])
