"""Generated texts with how they were unmasked: written, read back, refused where damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from mdmkit.errors import CheckpointError
from mdmkit.samples_log import (
    LoggedSample,
    LoggedSamples,
    copy_until,
    forget_after,
    read_samples,
    sampled_steps,
    write_samples,
)

REMASKED = LoggedSample(
    text="a<b> ü",
    length=3,
    network_evaluations=(1, 2, 4),
    states=(((0, "a"), (2, " x")), ((2, None),), ((1, "<b>"), (2, " ü"))),
)
LOGGED = LoggedSamples(
    step=40,
    ema=True,
    sampler={"use": "remdm", "steps": 3},
    seed=0,
    vocab_size=280,
    samples=(REMASKED,),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_samples(tmp_path, LOGGED)
    assert read_samples(tmp_path, 40) == LOGGED
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-00000040.json"]


def test_the_states_tell_each_token_at_each_moment() -> None:
    assert [REMASKED.pieces(state) for state in range(3)] == [
        ["a", None, " x"],
        ["a", None, None],
        ["a", "<b>", " ü"],
    ]


def test_a_run_that_goes_on_forgets_what_was_later_and_a_branch_takes_what_was_before(
    tmp_path: Path,
) -> None:
    for step in (0, 40, 80):
        write_samples(tmp_path, evolve(LOGGED, step=step))
    branch = tmp_path / "branch"
    branch.mkdir()
    copy_until(tmp_path, branch, 40)
    forget_after(tmp_path, 40)
    assert sampled_steps(tmp_path) == sampled_steps(branch) == [0, 40]
    assert read_samples(branch, 40) == LOGGED
    assert sampled_steps(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("states", [[[0, "a"], [1, "b"]], [], [[2, "c"], [0, None]]], "a mask at position 0"),
        ("states", [[[0, "a"], [1, "b"]], [[3, "c"]], [[2, "c"]]], "a position below 3, a text"),
        ("states", [[[-1, "a"]], [], []], "position: expected a whole number >= 0, got -1"),
        ("states", [[[0, 5]], [], []], "a change is [0, 5]"),
        ("states", [[[0, "a"]]], "other numbers of states"),
        ("states", 7, "TypeError"),
        ("text", None, "has no text"),
        ("length", True, "length: expected a whole number >= 0, got True"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    write_samples(tmp_path, LOGGED)
    path = tmp_path / "samples" / "step-00000040.json"
    plain = json.loads(path.read_text())
    plain["samples"][0][key] = value
    path.write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_samples(tmp_path, 40)
    assert message in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"step": 40}', "\xff"])
def test_what_is_no_log_at_all_is_refused(tmp_path: Path, content: str) -> None:
    write_samples(tmp_path, LOGGED)
    path = tmp_path / "samples" / "step-00000040.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"step-00000040\.json: cannot be read"):
        read_samples(tmp_path, 40)


def test_a_step_without_samples_names_those_that_have_some(tmp_path: Path) -> None:
    write_samples(tmp_path, LOGGED)
    with pytest.raises(CheckpointError, match="no samples of step 7; found 40"):
        read_samples(tmp_path, 7)
    (tmp_path / "samples" / "step-00000040.json").rename(
        tmp_path / "samples" / "step-00000041.json"
    )
    with pytest.raises(CheckpointError, match="it says that it is of step 40"):
        read_samples(tmp_path, 41)
