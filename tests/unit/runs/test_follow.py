"""A run that is looked at again and again while it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdmkit.files import write_atomic
from mdmkit.runs.follow import Follower
from mdmkit.samples_log import LoggedSample, LoggedSamples, write_samples

from .folders import line, make_run, training, validation, window, write_metrics


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made-0")


def samples(step: int) -> LoggedSamples:
    text = LoggedSample(text="ab", length=1, network_evaluations=(1,), states=(((0, "ab"),),))
    return LoggedSamples(
        step=step, ema=False, sampler={"use": "x"}, seed=0, vocab_size=9, samples=(text,)
    )


def test_a_training_from_its_begin_to_its_end(run: Path) -> None:
    with Follower(run) as follower:
        with training(run):
            view = follower.look(0.0)
            assert (view.over, view.history.reached, view.seconds_left) == (False, None, None)
            write_metrics(run, window(1), window(2), validation(2, 3.0))
            write_samples(run, samples(2))
            before = {path: path.stat() for path in run.rglob("*")}
            view = follower.look(0.0)
            assert {path: path.stat() for path in run.rglob("*")} == before
            assert [entry["step"] for entry in view.new] == [1, 2, 2]
            assert view.seconds_left == pytest.approx(98.0)
            assert view.samples == samples(2)
            assert follower.look(0.0).new == ()
        view = follower.look(0.0)
        assert (view.over, view.status.words) == (True, "interrupted at step 2 of 100")


def test_a_run_that_goes_on_from_an_earlier_step(run: Path) -> None:
    write_metrics(run, *(window(step) for step in range(10)), validation(9, 1.0))
    with Follower(run) as follower, training(run):
        follower.look(0.0)
        write_atomic(run / "metrics.jsonl", line(window(1)) + b"\n")
        view = follower.look(0.0)
        assert (view.history.reached, view.history.best) == (1, None)


def test_what_is_damaged_while_it_is_looked_at_is_said(run: Path) -> None:
    (run / "samples").mkdir()
    (run / "samples" / "step-00000002.json").write_text("{")
    with Follower(run) as follower:
        (said,) = [odd for odd in follower.look(0.0).findings if "samples" in odd]
        assert "step-00000002.json: cannot be read" in said
        os.mkfifo(run / "metrics.jsonl")
        assert "neither a file nor a folder" in (follower.look(0.0).status.problem or "")


def test_a_directory_that_is_removed_while_it_is_looked_at(run: Path) -> None:
    with Follower(run) as follower:
        follower.look(0.0)
        (run / "resolved.json").unlink()
        run.rmdir()
        view = follower.look(0.0)
        assert (view.over, view.status.state) == (True, "damaged")
