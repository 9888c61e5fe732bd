"""`mdmkit runs` and `mdmkit runs clean` on real runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from mdmkit.runs.checkpoints import steps_on_disk

from .commands import files, mdmkit, refused


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A folder with a finished run, one that failed and one that is damaged."""
    folder = tmp_path / "folder"
    shutil.copytree(finished, folder / finished.name)
    failed = Path(shutil.copytree(finished, folder / "failed-0"))
    (failed / "failure.json").write_text(
        '{"error": "OSError", "message": "no room", "step": 9, "time": "2026-01-01T00:00:00+00:00"}'
    )
    (folder / "broken-0" / "checkpoints").mkdir(parents=True)
    return folder


def test_every_run_with_what_became_of_it(folder: Path, finished: Path) -> None:
    os.utime(folder / "failed-0" / "failure.json", (2e9, 2e9))
    before = files(folder)
    said = mdmkit("runs", folder)
    assert (said.code, said.err) == (0, "")
    header, failed, why, done, broken, problem = said.lines
    assert header.split() == ["run", "status", "best", "validation", "NELBO", "changed", "size"]
    assert re.match(r"failed-0 +failed at step 12 of 12 +\d\.\d+ ± \d\.\d+ \(step 12\) +0s", failed)
    assert why == "  OSError: no room"
    assert re.match(rf"{finished.name} +finished, 12 steps .* ago +\d+\.\d MB$", done)
    assert re.match(r"broken-0 +damaged +- +- +0 B$", broken)
    assert problem.endswith("resolved.json: is missing; put it back, or remove the folder")
    assert files(folder) == before


def test_runs_as_json_and_by_status(folder: Path, finished: Path) -> None:
    listed = json.loads(mdmkit("runs", "--json", "--runs-dir", folder).out)
    states = {run["name"]: run["state"] for run in listed}
    assert states == {finished.name: "finished", "failed-0": "failed", "broken-0": "damaged"}
    found = json.loads(mdmkit("runs", folder, "--status", "finished", "--json").out)
    assert [run["name"] for run in found] == [finished.name]
    assert (found[0]["step"], found[0]["steps"], found[0]["saved"]) == (12, 12, 12)
    assert found[0]["size"] == sum(map(len, files(folder / finished.name).values()))
    assert mdmkit("runs", folder, "--status", "running").out == (
        f"there are no such runs in {folder}\n"
    )


def test_what_cannot_be_listed(folder: Path, tmp_path: Path) -> None:
    assert mdmkit("runs", tmp_path / "none").out == f"there are no runs in {tmp_path / 'none'}\n"
    assert 'there is no "finishd"; did you mean "finished"?' in refused(
        "runs", folder, "--status", "finishd"
    )
    assert "say the same" in refused("runs", folder, "--runs-dir", folder)
    (tmp_path / "file").touch()
    assert "cannot be listed (Not a directory)" in refused("runs", tmp_path / "file", code=1)


# --- cleaning ------------------------------------------------------------------------------


def test_old_checkpoints_are_shown_and_removed(folder: Path, finished: Path) -> None:
    run = folder / finished.name
    before = files(folder)
    clean = ("runs", "clean", "--runs-dir", folder)
    said = mdmkit(*clean, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert f"{finished.name}: the checkpoints of these steps stay: 12" in said.lines
    assert "is damaged; left alone (" in said.out
    assert re.fullmatch(r"would remove 2 folders, \d+\.\d (k|M)B", said.lines[-1])
    assert re.fullmatch(
        r"runs clean: to remove 2 folders and free \d+\.\d .B, add --yes; there is nobody to ask\n",
        refused(*clean),
    )
    assert files(folder) == before
    said = mdmkit("runs", "clean", run, "--yes", "--json")
    (done,) = json.loads(said.out)
    assert [Path(removal["path"]).name for removal in done["removals"]] == ["step-00000008"]
    assert (steps_on_disk(run), steps_on_disk(folder / "failed-0")) == ([12], [8, 12])
    again = mdmkit("runs", "clean", finished.name, "--runs-dir", folder, "--yes")
    assert again.lines == ["there is nothing to remove"]
    assert mdmkit("sample", run, "-n", 1).code == 0


@pytest.mark.parametrize(("answer", "left"), [("n\n", [8, 12]), ("y\n", [12])])
def test_it_asks_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[int]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("typer.confirm", lambda text: asked.append(text) or answer.startswith("y"))
    said = mdmkit("runs", "clean", folder / "failed-0")
    assert (said.code, steps_on_disk(folder / "failed-0")) == (0, left)
    assert asked[0].startswith("Remove 1 folder and free ")
    assert said.lines[-1].startswith("nothing was removed" if answer == "n\n" else "removed 1 fold")


def test_what_cannot_be_cleaned(folder: Path) -> None:
    assert "no such run directory" in refused("runs", "clean", folder / "none", "--yes", code=1)
    assert "--keep" in refused("runs", "clean", folder / "failed-0", "--keep", 0)


def test_one_run_that_cannot_be_cleaned_does_not_keep_the_others(
    folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mdmkit.runs import cleaning

    drop = cleaning.drop

    def refused(path: Path) -> None:
        if "failed-0" in path.parts:
            raise PermissionError(1, "Operation not permitted")
        drop(path)

    monkeypatch.setattr(cleaning, "drop", refused)
    said = mdmkit("runs", "clean", folder / "failed-0", folder / finished.name, "--yes")
    assert (said.code, steps_on_disk(folder / finished.name)) == (1, [12])
    assert said.lines[-1].startswith("removed 1 folder, ")
    assert said.err.endswith(
        "step-00000008: cannot be removed (Operation not permitted); what stays is whole\n"
    )
