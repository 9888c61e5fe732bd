from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

import mdmkit
from mdmkit.builtin.trackers import TensorBoard
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.metrics_log import read_metrics
from mdmkit.protocols import RunInfo
from mdmkit.recipe import load_recipe
from mdmkit.values import Metrics

LOSS = "train/loss"


def run_info(directory: Path) -> RunInfo:
    return RunInfo(directory=directory, name="mine", recipe={"run": {"name": "mine", "seed": 7}})


def line(step: int, loss: float = 1.0) -> Metrics:
    return {"step": step, "tokens": 64 * step, "seconds": 0.5, LOSS: loss}


def track(directory: Path, resumed: int, steps: range, loss: float = 1.0) -> None:
    tracking = TensorBoard().build(run_info(directory))
    tracking.resume(resumed)
    for step in steps:
        tracking.log(line(step, loss))
    tracking.close()


def raw_losses(directory: Path) -> list[tuple[int, float]]:
    """Every loss in every file, by a reader that knows of no sessions."""

    def each() -> Iterator[tuple[int, float]]:
        for path in sorted((directory / "tensorboard").glob("*tfevents*")):
            for event in LegacyEventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tag == LOSS:
                        yield event.step, value.simple_value

    return sorted(each())


def loaded(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory / "tensorboard")).Reload()


def test_every_finite_figure_becomes_a_scalar(tmp_path: Path) -> None:
    tracking = TensorBoard().build(run_info(tmp_path))
    tracking.resume(-1)
    tracking.log(line(1))
    tracking.log({**line(2, math.nan), "val/nelbo_per_token": math.inf, "train/grad_norm": 2})
    events = loaded(tmp_path)  # before it is closed: what is logged is there
    tracking.close()
    assert set(events.Tags()["scalars"]) == {LOSS, "tokens", "seconds", "train/grad_norm"}
    assert [(e.step, e.value) for e in events.Scalars("tokens")] == [(1, 64.0), (2, 128.0)]
    assert [(e.step, e.value) for e in events.Scalars(LOSS)] == [(1, 1.0)]
    assert [(e.step, e.value) for e in events.Scalars("train/grad_norm")] == [(2, 2.0)]


def test_the_recipe_is_logged_once(tmp_path: Path) -> None:
    for resumed in (-1, 2, 2, 0, -1):
        track(tmp_path, resumed, range(resumed + 1, 5))
        texts = loaded(tmp_path).Tensors("recipe/text_summary")
        assert [text.step for text in texts] == [0]
        assert b'name = "mine"\nseed = 7' in texts[0].tensor_proto.string_val[0]


def test_lines_past_the_step_are_forgotten_by_every_reader(tmp_path: Path) -> None:
    track(tmp_path, -1, range(1, 7), loss=1.0)
    track(tmp_path, 4, range(5, 9), loss=2.0)
    track(tmp_path, 2, range(3, 6), loss=3.0)
    expected = [(1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0), (5, 3.0)]
    assert raw_losses(tmp_path) == expected
    assert sorted((e.step, e.value) for e in loaded(tmp_path).Scalars(LOSS)) == expected


def test_who_has_read_what_is_forgotten_is_told(tmp_path: Path) -> None:
    """As a TensorBoard that goes on looking while a run is resumed."""
    track(tmp_path, -1, range(1, 7), loss=1.0)
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.rename(path.with_name("events.out.tfevents.0000000001.earlier"))  # names tell the order
    watching = loaded(tmp_path)
    assert len(watching.Scalars(LOSS)) == 6
    track(tmp_path, 4, range(5, 7), loss=2.0)
    seen = [(e.step, e.value) for e in watching.Reload().Scalars(LOSS)]
    assert seen == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0)]


def test_what_needs_no_change_is_left_alone(tmp_path: Path) -> None:
    track(tmp_path, -1, range(1, 4))
    (path,) = (tmp_path / "tensorboard").iterdir()
    before = path.read_bytes()
    track(tmp_path, 3, range(0))
    assert [p.read_bytes() for p in (tmp_path / "tensorboard").iterdir()] == [before]
    track(tmp_path, -1, range(0))
    (other,) = (tmp_path / "tensorboard").iterdir()
    assert other != path


def test_a_torn_end_and_a_torn_rewriting_lose_nothing_else(tmp_path: Path) -> None:
    track(tmp_path, -1, range(1, 4))
    (path,) = (tmp_path / "tensorboard").iterdir()
    torn = path.with_name(f".tmp-{path.name}-x")
    torn.write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-3])
    track(tmp_path, 3, range(4, 6))
    assert raw_losses(tmp_path) == [(step, 1.0) for step in (1, 2, 4, 5)]
    assert not torn.exists()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    tracking = TensorBoard().build(run_info(tmp_path))
    with pytest.raises(CheckpointError, match=r"tensorboard: cannot be written"):
        tracking.resume(-1)


@pytest.mark.parametrize("folder", ["", ".", "/tmp/x", "../x", "a/../../x"])
def test_a_folder_is_inside_of_the_run_directory(tmp_path: Path, folder: str) -> None:
    with pytest.raises(RecipeError, match="expected a path inside the run directory"):
        TensorBoard(folder=folder).build(run_info(tmp_path))


def test_without_the_package_the_remedy_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    remedy = r"not installed; run: pip install 'mdmkit\[tensorboard\]'"
    with pytest.raises(RecipeError, match=remedy):
        TensorBoard().build(run_info(tmp_path))


def test_it_is_not_loaded_before_it_is_used() -> None:
    code = (
        "import sys\nfrom mdmkit.cli import main\n"
        "status = main(['check', 'quickstart_bell', '--set', 'trackers.tb.use=tensorboard'])\n"
        "sys.exit('loaded' if 'tensorboard' in sys.modules else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_run_logs_what_its_metrics_say(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=4", "trackers.tb.use=tensorboard"])
    directory = mdmkit.train(recipe).directory
    events = loaded(directory)
    entries = read_metrics(directory / "metrics.jsonl")
    for name in (LOSS, "val/nelbo_per_token"):
        logged = [(entry["step"], entry[name]) for entry in entries if name in entry]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(step, pytest.approx(value)) for step, value in logged]
