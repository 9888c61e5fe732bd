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


def test_other_ranks_than_the_first_write_nothing(tmp_path: Path) -> None:
    (tmp_path / FAILURE).write_text("of rank 0")
    with pytest.raises(ValueError, match="x"), recorded(tmp_path, writes=False):
        raise ValueError("x")
    assert (tmp_path / FAILURE).read_text() == "of rank 0"
