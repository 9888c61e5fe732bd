"""A request to stop: the first of a kind asks, and what follows it is told apart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mdmkit import load_recipe, train
from mdmkit.builtin.objectives import LiveMaskedDiffusion
from mdmkit.errors import RunInterrupted
from mdmkit.metrics_log import read_metrics
from mdmkit.training import interrupt
from mdmkit.training.checkpoint import steps_on_disk
from mdmkit.training.interrupt import listening
from mdmkit.training.run_directory import run_directory


def test_a_sigterm_that_comes_twice_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    ended: list[int] = []
    monkeypatch.setattr(interrupt.signal, "raise_signal", ended.append)
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        now[0] += 4.0
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        now[0] += 4.0  # somebody means it
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == [signal.SIGTERM]


def test_a_second_ctrl_c_stops_at_once() -> None:
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def stopped_in(monkeypatch: pytest.MonkeyPatch, recipe_file: Path, step: int) -> Path:
    """The directory of a run that was asked to stop in the middle of the 0-based `step`."""
    loss, calls = LiveMaskedDiffusion.loss, [0]

    def noted(self, denoiser, noised):
        calls[0] += 1
        if calls[0] == step + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, denoiser, noised)

    monkeypatch.setattr(LiveMaskedDiffusion, "loss", noted)
    recipe = load_recipe(recipe_file, ["train.diagnose_every=0", "train.validate_every=4"])
    with pytest.raises(RunInterrupted, match="saved in"):
        train(recipe)
    return run_directory(recipe)


def test_who_asks_does_not_wait_for_a_validation(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path
) -> None:
    run = stopped_in(monkeypatch, tiny_recipe, 6)  # it is seen after step 7, of which 8 is next
    (last,) = steps_on_disk(run)[-1:]
    assert last == 8
    lines = read_metrics(run / "metrics.jsonl")
    assert [x["step"] for x in lines if "val/nelbo_per_token" in x] == [0, 4]


def test_a_request_in_the_last_step_is_heard(
    monkeypatch: pytest.MonkeyPatch, tiny_recipe: Path
) -> None:
    run = stopped_in(monkeypatch, tiny_recipe, 11)
    assert steps_on_disk(run)[-1] == 12
    assert not (run / "eval").exists()
