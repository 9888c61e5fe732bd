"""From lines of metrics to what is odd, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdmkit.runs.failure import Failure
from mdmkit.runs.health import Surroundings, findings
from mdmkit.runs.history import History
from mdmkit.runs.status import RunStatus

from .folders import line, validation, window

RUNNING = RunStatus(directory=Path("made-0"), state="running", step=100, steps=200, saved=50)


def wave(step: int) -> float:
    return 2.0 + 0.05 * (step % 5)


def history(*entries: dict[str, object]) -> History:
    return History.of(line(entry) for entry in entries)


def odd(told: History, status: RunStatus = RUNNING, **around: float) -> list[str]:
    return findings(told, status, Surroundings(**around))  # type: ignore[arg-type]


def test_nothing_is_odd_of_a_run_that_is_as_it_should_be() -> None:
    steps = [window(step, 4 - step / 100 + 0.1 * (step % 3)) for step in range(100)]
    told = history(*steps, validation(50, 3.0), validation(100, 2.9))
    assert odd(told, silence=5, free=10**12, checkpoint=10**6) == []
    assert odd(History()) == []


def test_the_figures_of_a_history() -> None:
    told = history(validation(0, 6.0), window(1), window(3), window(5, None), validation(5, 5.5))
    assert told.reached == 5
    assert told.seconds_per_step == pytest.approx(1.0)
    assert [w.loss for w in told.windows] == [2.0, 2.0, None]
    assert told.longest == 2.0
    assert told.best is not None
    assert told.best.step == 5


def test_time_is_judged_by_the_later_half() -> None:
    slow = [window(step) | {"seconds": 100.0 * step} for step in range(100)]
    fast = [window(100 + step) | {"seconds": 9900.0 + step} for step in range(110)]
    assert history(*slow, *fast).seconds_per_step == pytest.approx(1.0)


def test_steps_that_are_not_finite() -> None:
    lines = [window(step, nonfinite_steps=min(step, 2)) for step in range(30)]
    assert odd(history(*lines)) == ["2 steps had a gradient that was not finite and were skipped"]
    lines.append(window(30, None, nonfinite_steps=3))
    assert odd(history(*lines)) == [
        "3 steps had a gradient that was not finite and were skipped, 1 of them in the last 20 "
        "lines"
    ]


def test_a_loss_that_rises() -> None:
    flat = [window(step, wave(step)) for step in range(100)]
    assert odd(history(*flat)) == []
    up = [window(step, wave(step) + (0.5 if step >= 90 else 0)) for step in range(100)]
    (said,) = odd(history(*up))
    assert said.startswith("the training loss rises: 2.1 to 2.6 since step 80 (a weighting that")


def test_a_spike_of_the_gradient() -> None:
    lines = [window(step, grad_norm=8.0 if step == 95 else 1.0) for step in range(100)]
    assert odd(history(*lines)) == ["the gradient's norm was 8 at step 95, 8 times its median"]
    lines += [window(step) for step in range(100, 120)]
    assert odd(history(*lines)) == []  # it is over


def test_validation_that_got_worse_by_more_than_its_error() -> None:
    assert odd(history(validation(10, 3.0), validation(20, 3.01))) == []
    assert odd(history(validation(10, 3.0), validation(20, 3.02))) == [
        "validation got worse: 3.0200 at step 20, the best was 3.0000 at step 10"
    ]


def test_silence() -> None:
    told = history(window(0), window(50), window(60))
    assert odd(told, silence=149) == []
    (said,) = odd(told, silence=151)
    assert said.startswith("no new line for 151 s, the longest pause before was 50 s; the process")
    stopped = RunStatus(directory=Path("x"), state="interrupted", step=5, steps=9, saved=4)
    assert odd(told, stopped, silence=999) == [
        "nobody trains here: it was interrupted or killed; step 4 is saved"
    ]


def test_a_disk_that_is_nearly_full() -> None:
    assert odd(History(), free=2 * 10**9, checkpoint=10**8) == []
    assert odd(History(), free=2 * 10**9, checkpoint=10**9) == [
        "the disk is nearly full: 2,000 MB are left; a checkpoint takes 1,000 MB"
    ]


def test_lines_that_are_none_are_left_out_and_counted() -> None:
    lines = [line(window(1)), b"{", b'{"step": -1}', b'{"step": 2, "x": "y"}', b"", b"\xff"]
    told = History.of(lines)
    assert (told.damaged, len(told.windows)) == (4, 1)
    assert odd(told) == ["4 lines of the metrics cannot be read and are left out"]


def test_a_failure_comes_first() -> None:
    failure = Failure(error="DataError", message="no text", step=3, time="")
    failed = RunStatus(directory=Path("x"), state="failed", steps=9, step=3, failure=failure)
    assert odd(history(validation(1, 2.0), validation(2, 3.0)), failed)[0] == (
        "failed: DataError: no text"
    )
