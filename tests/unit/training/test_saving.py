"""Checkpoints written beside the loop: of the state as it was, a few at once, never in silence."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mdmkit import load_recipe, train
from mdmkit.errors import CheckpointError
from mdmkit.metrics_log import read_metrics
from mdmkit.recipe import Train
from mdmkit.runs.checkpoints import expired
from mdmkit.training import saving
from mdmkit.training.checkpoint import (
    checkpoints_dir,
    damage,
    load_checkpoint,
    step_name,
    steps_on_disk,
)
from mdmkit.training.distributed import World
from mdmkit.training.run_directory import run_directory
from mdmkit.training.saving import Saver

WORLD = World(device=torch.device("cpu"))


class Gate:
    """Stands before the writing of tensors: nothing passes until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.passed = 0
        self._write = saving.write_tensors

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        assert self.opened.wait(60)
        self.passed += 1
        self._write(*args, **kwargs)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(saving, "write_tensors", made)
    yield made
    made.opened.set()  # or a failed test would wait for it


def saver(run: Path, in_flight: int = 1, **options: int) -> Saver:
    return Saver(
        run,
        Train(steps=100, global_batch_size=1, checkpoints_in_flight=in_flight, **options),
        WORLD,
    )


def loaded(run: Path, step: int, like: dict[str, torch.Tensor]) -> tuple[dict[str, Any], Any]:
    filled = {name: torch.full_like(tensor, -1) for name, tensor in like.items()}
    path = checkpoints_dir(run) / step_name(step)
    assert damage(path) is None
    return filled, load_checkpoint(path, filled, world=WORLD)


def test_what_is_saved_is_the_state_at_the_call(tmp_path: Path, gate: Gate) -> None:
    whole = torch.zeros(8, 4)
    state = {"plain": torch.zeros(3), "scalar": torch.tensor(0.0), "view": whole[2:5].t()}
    facts: dict[str, Any] = {"components": {"time_sampler": {"bins": [0]}}}
    writer = saver(tmp_path, in_flight=2)
    for step in (1, 2):
        for tensor in state.values():
            tensor.fill_(step)
        facts["components"]["time_sampler"]["bins"][0] = step
        writer.save(step, state, facts)
        for tensor in state.values():
            tensor.fill_(99)
        facts["components"]["time_sampler"]["bins"][0] = 99
    assert gate.passed == 0  # both calls returned before anything was written
    assert steps_on_disk(tmp_path) == []
    gate.opened.set()
    writer.settle()
    for step in (1, 2):
        found, said = loaded(tmp_path, step, state)
        assert all((tensor == step).all() for tensor in found.values())
        assert said["components"] == {"time_sampler": {"bins": [step]}}
    state["plain"].fill_(3)
    writer.save(3, state, facts)  # into the memory of the first
    writer.close()
    assert (loaded(tmp_path, 3, state)[0]["plain"] == 3).all()
    assert (loaded(tmp_path, 2, state)[0]["plain"] == 2).all()


def test_one_more_than_may_be_under_way_waits(tmp_path: Path, gate: Gate) -> None:
    writer = saver(tmp_path)
    writer.save(1, {"x": torch.zeros(2)}, {})
    passed_at_return: list[int] = []

    def second() -> None:
        writer.save(2, {"x": torch.zeros(2)}, {})
        passed_at_return.append(gate.passed)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    gate.opened.set()
    thread.join()
    writer.close()
    assert passed_at_return[0] >= 1
    assert steps_on_disk(tmp_path) == [1, 2]


def test_none_under_way_is_saving_at_once(tmp_path: Path) -> None:
    writer = saver(tmp_path, in_flight=0)
    writer.save(1, {"x": torch.ones(2)}, {})
    assert steps_on_disk(tmp_path) == [1]
    with pytest.raises(CheckpointError, match="nothing was overwritten"):
        writer.save(1, {"x": torch.zeros(2)}, {})
    writer.close()
    assert (loaded(tmp_path, 1, {"x": torch.ones(2)})[0]["x"] == 1).all()


class FullDisk:
    """Stands before the writing of tensors, and lets only the first pass."""

    def __init__(self) -> None:
        self._calls = iter(range(100))
        self._write = saving.write_tensors

    def __call__(self, path: Path, *args: Any, **kwargs: Any) -> None:
        if next(self._calls) == 1:
            (path / "half").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._write(path, *args, **kwargs)


FULL = r"cannot be saved \(No space left on device\); the checkpoint of step {} is kept\. Make room"


def save_after_a_failure(writer: Saver) -> None:
    writer.save(2, {"x": torch.ones(2)}, {})
    while not writer.failed:
        time.sleep(0.01)
    writer.save(3, {"x": torch.ones(2)}, {})


def settle_after_a_failure(writer: Saver) -> None:
    writer.save(2, {"x": torch.ones(2)}, {})
    writer.settle()


@pytest.mark.parametrize("in_flight", [0, 1, 2])
@pytest.mark.parametrize("told_by", [save_after_a_failure, settle_after_a_failure])
def test_a_failure_is_told_by_the_next_save_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_flight: int, told_by: Any
) -> None:
    monkeypatch.setattr(saving, "write_tensors", FullDisk())
    writer = saver(tmp_path, in_flight, keep_checkpoints=1)
    writer.save(1, {"x": torch.ones(2)}, {})
    with pytest.raises(CheckpointError, match=FULL.format(1)) as caught:
        told_by(writer)
    assert caught.value.everywhere  # the first rank alone says it
    writer.close()
    assert [path.name for path in checkpoints_dir(tmp_path).iterdir()] == [step_name(1)]
    assert damage(checkpoints_dir(tmp_path) / step_name(1)) is None


def test_a_failure_stops_the_run_at_its_next_step(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=40"])
    monkeypatch.setattr(saving, "write_tensors", FullDisk())
    with pytest.raises(CheckpointError, match=FULL.format(4)):
        train(recipe)
    run = run_directory(recipe)
    assert steps_on_disk(run) == [4]
    assert read_metrics(run / "metrics.jsonl")[-1]["step"] <= 12  # that of the third save
    monkeypatch.undo()
    assert train(recipe).step == 40


@pytest.mark.parametrize(
    ("keep", "keep_every", "left"),
    [
        (0, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (0, 4, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (2, 0, [8, 9]),
        (2, 3, [3, 6, 8, 9]),
        (20, 3, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_what_is_kept(tmp_path: Path, keep: int, keep_every: int, left: list[int]) -> None:
    steps = range(1, 10)
    assert [s for s in steps if s not in expired(list(steps), keep, keep_every)] == left
    writer = saver(tmp_path, keep_checkpoints=keep, keep_every=keep_every)
    for step in steps:
        writer.save(step, {"x": torch.ones(1)}, {})
    writer.close()
    assert steps_on_disk(tmp_path) == left


def test_a_checkpoint_that_cannot_be_dropped_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: Any) -> None:
        if "dropped" in path.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(saving.shutil, "rmtree", refused)
    writer = saver(tmp_path, keep_checkpoints=1)
    writer.save(1, {"x": torch.ones(1)}, {})
    writer.save(2, {"x": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match=r"step-00000001: cannot be dropped \(Permission"):
        writer.settle()
    writer.close()
    assert steps_on_disk(tmp_path) == [2]


def test_a_gpu_without_a_number_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("cpu", "cuda", "cuda:1"):
        saving._use_device(torch.device(name))
    assert chosen == [torch.device("cuda:1")]
