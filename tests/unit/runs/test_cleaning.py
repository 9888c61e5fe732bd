"""Old checkpoints go, one that is whole always stays."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mdmkit.runs.checkpoints import damage, drop, steps_on_disk
from mdmkit.runs.cleaning import Wish, clean, plan

from .folders import make_checkpoint, make_run, training


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "runs" / "made-0", keep_every=20)
    for step in (10, 20, 30, 40, 50):
        make_checkpoint(run, step)
    return run


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def harm(run: Path, step: int) -> None:
    os.truncate(run / "checkpoints" / f"step-{step:08d}" / "__0_0.distcp", 999)


@pytest.mark.parametrize(
    ("wish", "stay"),
    [
        (Wish(), [20, 40, 50]),
        (Wish(keep=3), [20, 30, 40, 50]),
        (Wish(keep=9), [10, 20, 30, 40, 50]),
        (Wish(all_but_last=True), [50]),
        (Wish(keep=2, all_but_last=True), [40, 50]),
    ],
)
def test_what_stays(run: Path, wish: Wish, stay: list[int]) -> None:
    planned = plan(run, wish)
    assert steps_on_disk(run) == [10, 20, 30, 40, 50]  # nothing is gone yet
    assert list(planned.keeps) == stay
    assert len(planned.removals) == 5 - len(stay)
    size = sum(f.stat().st_size for f in (run / "checkpoints" / "step-00000010").iterdir())
    assert planned.size == size * len(planned.removals)
    done = clean(planned, wish)
    assert (done.removals, done.keeps) == (planned.removals, planned.keeps)
    assert names(run) == [f"step-{step:08d}" for step in stay]
    assert plan(run, wish).removals == ()


def test_a_damaged_one_is_not_what_stays(run: Path) -> None:
    harm(run, 50)
    planned = plan(run, Wish(all_but_last=True))
    assert planned.keeps == (40, 50)
    assert planned.notes == (
        "step-00000050 is damaged (__0_0.distcp is not as it was written); left",
    )
    for step in (10, 20, 30, 40):
        harm(run, step)
    planned = plan(run, Wish())
    assert (planned.removals, planned.keeps) == ((), (10, 20, 30, 40, 50))
    assert "has no whole checkpoint" in planned.notes[-1]


def test_damaged_ones_stay_as_long_as_fewer_are_whole_than_are_to_stay(run: Path) -> None:
    for step in (10, 20, 40):
        harm(run, step)
    planned = plan(run, Wish(keep=3, all_but_last=True))
    assert (planned.keeps, planned.removals) == ((10, 20, 30, 40, 50), ())
    assert [note.split()[0] for note in planned.notes] == [
        f"step-{step:08d}" for step in (40, 20, 10)
    ]
    planned = plan(run, Wish(keep=2, all_but_last=True))
    assert planned.keeps == (30, 40, 50)
    assert len(planned.notes) == 1


def test_what_is_damaged_after_the_user_was_asked_is_noticed(run: Path) -> None:
    wish = Wish(all_but_last=True)
    planned = plan(run, wish)
    harm(run, 50)
    done = clean(planned, wish)
    assert [removal.path.name for removal in done.removals] == [
        "step-00000010", "step-00000020", "step-00000030",
    ]  # fmt: skip
    assert steps_on_disk(run) == [40, 50]
    assert damage(run / "checkpoints" / "step-00000040") is None


def test_what_was_set_aside_or_left_over_goes_too(run: Path) -> None:
    make_checkpoint(run, 30, name="bad-step-00000030")
    make_checkpoint(run, 30, name=".tmp-dropped-step-00000010")
    (run / "checkpoints" / ".tmp-step-00000060").mkdir()
    wish = Wish(keep=9)
    planned = plan(run, wish)
    assert {removal.path.name: removal.what for removal in planned.removals} == {
        "bad-step-00000030": "damaged, set aside",
        ".tmp-dropped-step-00000010": "left over",
        ".tmp-step-00000060": "left over",
    }
    clean(planned, wish)
    assert len(names(run)) == 5


def test_a_running_run_is_left_alone(run: Path) -> None:
    planned = plan(run, Wish())
    with training(run):
        assert plan(run, Wish()).notes == ("is running; left alone",)
        assert "is in use" in str(clean(planned, Wish()).error)
    assert steps_on_disk(run) == [10, 20, 30, 40, 50]


def test_killed_in_the_middle_it_leaves_nothing_that_looks_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish, remove = Wish(), shutil.rmtree

    def killed(path: Path) -> None:
        next(path.iterdir()).unlink()
        raise KeyboardInterrupt

    planned = plan(run, wish)
    with monkeypatch.context() as patch:
        patch.setattr("mdmkit.runs.checkpoints.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            clean(planned, wish)
    assert shutil.rmtree is remove
    assert names(run)[0] == ".tmp-dropped-step-00000010"
    assert all(damage(run / "checkpoints" / f"step-{s:08d}") is None for s in steps_on_disk(run))
    clean(plan(run, wish), wish)
    assert names(run) == [f"step-{step:08d}" for step in (20, 40, 50)]


def test_a_step_that_a_branch_has_not_copied_yet_stays(run: Path) -> None:
    branch = make_run(run.parent / "branch-0")
    facts = {"from": run.name, "step": 10, "changed": []}
    (branch / "branch.json").write_text(json.dumps({**facts, "whole": False}))
    assert 10 in plan(run, Wish()).keeps
    (branch / "branch.json").write_text(json.dumps({**facts, "whole": True}))
    assert 10 not in plan(run, Wish()).keeps


def test_a_branch_that_begins_while_others_go_gets_its_step(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(path: Path) -> None:
        if path.name == "step-00000010":
            branch = make_run(run.parent / "branch-0")
            facts = {"from": run.name, "step": 20, "whole": False}
            (branch / "branch.json").write_text(json.dumps(facts))
        drop(path)

    monkeypatch.setattr("mdmkit.runs.cleaning.drop", dropping)
    wish = Wish(all_but_last=True)
    assert clean(plan(run, wish), wish).keeps == (20, 50)


def test_links_and_damaged_runs_are_left_alone(run: Path, tmp_path: Path) -> None:
    elsewhere = shutil.move(run / "checkpoints" / "step-00000010", tmp_path / "elsewhere")
    (run / "checkpoints" / "step-00000010").symlink_to(elsewhere)
    (note,) = plan(run, Wish()).notes
    assert note.startswith("is damaged; left alone (")
    (run / "checkpoints" / "step-00000010").unlink()
    (run / "resolved.json").write_text("{")
    (note,) = plan(run, Wish()).notes
    assert "resolved.json: cannot be read" in note


def test_what_cannot_be_removed_is_said_with_what_was(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        if path.name == "step-00000020":
            raise PermissionError(1, "Operation not permitted")
        drop(path)

    monkeypatch.setattr("mdmkit.runs.cleaning.drop", refused)
    wish = Wish(all_but_last=True)
    done = clean(plan(run, wish), wish)
    assert "step-00000020: cannot be removed (Operation" in str(done.error)
    assert [removal.path.name for removal in done.removals] == ["step-00000010"]
    assert done.keeps == (20, 30, 40, 50)


def test_what_cannot_be_looked_at_is_left_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(run, Wish())

    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mdmkit.runs.cleaning.require_own_files", refused)
    assert str(clean(planned, Wish()).error).endswith(
        "cannot be looked at (Permission denied); left alone"  # and not that it is in use
    )
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(".lock")
    (note,) = plan(run, Wish()).notes
    assert note.startswith("cannot be looked at; left alone (")
