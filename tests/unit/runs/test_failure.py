"""What a training leaves that ends as nobody wanted."""

from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mdmkit import TrainingError, load_recipe, train
from mdmkit.builtin.objectives import LiveMaskedDiffusion
from mdmkit.errors import CheckpointError, RunInterrupted
from mdmkit.runs import failure
from mdmkit.runs.failure import FAILURE, read_failure, recorded


def test_the_error_of_a_training_is_kept_until_it_goes_on(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["train.steps=4", "train.max_nonfinite_steps=0", "train.validate_every=0"]
    recipe = load_recipe(tiny_recipe, [*changes, "train.checkpoint_every=2"])
    loss = LiveMaskedDiffusion.loss

    def broken(self, denoiser, noised):  # type: ignore[no-untyped-def]
        found = loss(self, denoiser, noised)
        return found._replace(total=found.total * float("nan"))

    runs = tiny_recipe.parent.parent / "runs"
    with monkeypatch.context() as patch:
        patch.setattr(LiveMaskedDiffusion, "loss", broken)
        with pytest.raises(TrainingError):
            train(recipe)
    (run,) = runs.iterdir()
    kept = read_failure(run)
    assert kept is not None
    assert (kept.error, kept.step) == ("TrainingError", 1)
    assert kept.message.startswith("step 1: the gradient was not finite 1 steps in a row")
    assert datetime.now(UTC) - datetime.fromisoformat(kept.time) < timedelta(minutes=5)
    assert train(recipe).directory == run
    assert read_failure(run) is None


@pytest.mark.parametrize("error", [RunInterrupted("asked"), KeyboardInterrupt(), SystemExit()])
def test_to_be_stopped_is_no_failure(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), recorded(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_goes_wrong_while_it_is_written_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(failure, "write_json", full)
    with pytest.raises(CheckpointError, match="the real one"), recorded(tmp_path):
        raise CheckpointError("the real one")

    def lost() -> int:
        raise RuntimeError("the job is gone")

    def failing() -> None:
        with recorded(tmp_path) as watched:
            watched.step = lost
            raise CheckpointError("the real one")

    with pytest.raises(CheckpointError, match="the real one"):
        failing()


def fail(run: Path, error: Exception, rank: int) -> None:
    with pytest.raises(type(error)), recorded(run, rank=rank):
        raise error


@pytest.mark.parametrize("links", [True, False])
def test_the_rank_that_fails_first_has_the_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    fail(tmp_path, MemoryError("3 TB"), rank=1)
    kept = read_failure(tmp_path)
    assert kept is not None
    assert (kept.rank, kept.line) == (1, "rank 1: MemoryError: 3 TB")
    if links:
        fail(tmp_path, ValueError("of a third"), rank=2)
        assert read_failure(tmp_path) == kept
    assert [path.name for path in tmp_path.iterdir()] == [FAILURE]
    with recorded(tmp_path, rank=1):
        assert read_failure(tmp_path) == kept
    with recorded(tmp_path, rank=0):  # the run goes on
        assert read_failure(tmp_path) is None
