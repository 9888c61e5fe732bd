"""What is said of a run: the same whatever is missing or damaged, and never a traceback."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mdmkit.runs.failure import FAILURE, recorded
from mdmkit.runs.lock import is_held, take
from mdmkit.runs.status import run_folders, status_of

from .folders import make_checkpoint, make_run, training, validation, window, write_metrics

FAILED = '{"error": "OSError", "message": "x", "step": %d, "time": "2026-01-01T00:00:00+00:00"}'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "made-0")
    write_metrics(run, validation(0, 5.0), window(10), validation(10, 3.0), validation(20, 3.5))
    make_checkpoint(run, 10)
    return run


def finish(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"weights")
    (run / "eval").mkdir()
    (run / "eval" / "h.json").write_text("{}")


def test_a_run_that_was_stopped(run: Path) -> None:
    status = status_of(run)
    assert status.words == "interrupted at step 20 of 100"
    assert (status.saved, status.why) == (10, None)
    assert status.best is not None
    assert (status.best.value, status.best.stderr, status.best.step) == (3.0, 0.01, 10)
    assert status.size == sum(p.stat().st_size for p in run.rglob("*") if p.is_file())
    assert time.time() - 60 < status.changed <= time.time() + 1
    assert status.to_json()["best"] == {"value": 3.0, "stderr": 0.01, "step": 10}
    json.dumps(status.to_json(), allow_nan=False)


def test_a_run_is_running_as_long_as_its_lock_is_held(run: Path) -> None:
    (run / FAILURE).write_text("of the time before")
    with training(run):
        assert status_of(run).words == "running at step 20 of 100"
    (run / FAILURE).unlink()
    assert status_of(run).state == "interrupted"  # the lock file itself says nothing


def test_looking_at_the_lock_does_not_keep_a_training_from_beginning(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / ".lock").touch()
    with training(run), (run / ".lock").open("a") as lock, pytest.raises(BlockingIOError):
        take(lock)
    looking = (run / ".lock").open("a")
    take(looking)  # somebody looks at this very moment
    monkeypatch.setattr("mdmkit.runs.lock.time.sleep", lambda _: looking.close())
    with (run / ".lock").open("a") as lock:
        take(lock)
        assert is_held(run)


def test_a_finished_run_has_its_weights_and_all_its_numbers(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"weights")
    status = status_of(run)
    assert status.state == "interrupted"
    assert status.why == "trained to its end, but not measured yet: h"
    (run / "model.safetensors").unlink()
    finish(run)
    assert status_of(run).words == "finished, 100 steps"
    (run / "imported.json").write_text("{}")
    assert (status_of(run).words, status_of(run).step) == ("imported", None)


def test_a_run_that_failed(run: Path) -> None:
    def failing() -> None:
        with recorded(run) as watched:
            watched.step = lambda: 25
            raise OSError("no\nroom " + "x" * 1000)

    with pytest.raises(OSError, match="no"):
        failing()
    status = status_of(run)
    assert status.words == "failed at step 25 of 100"
    assert status.why is not None
    assert status.why.startswith("OSError: no room xxx")
    assert len(status.why) < 520
    with recorded(run):  # it goes on
        assert not (run / FAILURE).exists()
    assert status_of(run).state == "interrupted"


@pytest.mark.parametrize(
    ("file", "content", "state", "problem"),
    [
        ("resolved.json", None, "damaged", "resolved.json: is missing; put it back"),
        ("resolved.json", "{", "damaged", "resolved.json: cannot be read (JSONDecodeError"),
        ("resolved.json", "[]", "damaged", "resolved.json: cannot be read (TypeError"),
        ("resolved.json", '{"train": {"steps": true}}', "damaged", "it is not the recipe of a run"),
        ("failure.json", "{}", "damaged", "failure.json: cannot be read (expected the keys error"),
        (
            "failure.json",
            "[" * 99 + "]" * 99,
            "damaged",
            "failure.json: cannot be read (nested too deep",
        ),
        (
            "failure.json",
            FAILED % 10**30,
            "damaged",
            "failure.json: cannot be read (step is no who",
        ),
        ("failure.json", FAILED % 101, "failed", "OSError: x; its files speak of step 101; its re"),
        ("metrics.jsonl", '{"step": 101}\n', "interrupted", "its files speak of step 101; its rec"),
        ("metrics.jsonl", "rubbish\n", "interrupted", "metrics.jsonl: its last line is b'rubbish'"),
        ("metrics.jsonl", '{"step": 3, "x": NaN}\n', "interrupted", "its last line is"),
        ("metrics.jsonl", '{"step": 3', "interrupted", None),
    ],
)
def test_what_is_damaged_is_said(
    run: Path, file: str, content: str | None, state: str, problem: str | None
) -> None:
    (run / file).unlink(missing_ok=True)
    if content is not None:
        (run / file).write_text(content)
    status = status_of(run)
    assert status.state == state
    assert (status.why is None) if problem is None else (problem in (status.why or ""))
    assert status.step is None or status.step <= 100
    assert "\n" not in status.words + (status.why or "")


def test_links_out_of_a_run_are_not_followed(run: Path) -> None:
    (run / "samples").mkdir()
    (run / "samples" / "step-00000001.json").symlink_to("/etc/hostname")
    assert status_of(run).state == "damaged"
    assert "outside of the run directory" in (status_of(run).why or "")


def test_a_pipe_instead_of_metrics_is_not_waited_for(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert "neither a file nor a folder" in (status_of(run).why or "")


def test_folders_that_are_no_runs_are_passed_over(run: Path) -> None:
    (run.parent / "notes").mkdir()
    (run.parent / "file").touch()
    (run.parent / "half" / "checkpoints").mkdir(parents=True)
    assert [path.name for path in run_folders(run.parent)] == ["half", "made-0"]
