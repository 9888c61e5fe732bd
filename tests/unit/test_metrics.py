from __future__ import annotations

import json
import math

import pytest

from mdmkit.builtin.trackers import Jsonl
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.metrics_log import MetricsLog, read_columns, read_metrics
from mdmkit.protocols import RunInfo


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def write(path, *steps):
    log = MetricsLog(path)
    for step in steps:
        log.log({"step": step, "train/loss": 1.5})
    log.close()


def test_a_line_is_there_as_soon_as_it_is_logged(path):
    log = MetricsLog(path)
    log.resume(0)
    log.log({"step": 1, "tokens": 128, "seconds": 0.5, "train/loss": 2.25})
    assert path.read_text() == '{"step": 1, "tokens": 128, "seconds": 0.5, "train/loss": 2.25}\n'
    log.log({"step": 2})
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    log.close()


def test_figures_that_are_not_finite_become_null(path):
    log = MetricsLog(path)
    log.log({"step": 1, "train/loss": math.nan, "train/grad_norm": -math.inf})
    log.close()
    assert read_metrics(path) == [{"step": 1, "train/loss": None, "train/grad_norm": None}]
    assert "NaN" not in path.read_text()


def test_resume_cuts_what_is_past_the_step(path):
    write(path, 1, 2, 3, 4)
    before = path.read_bytes().splitlines(keepends=True)
    log = MetricsLog(path)
    log.resume(2)
    assert path.read_bytes() == b"".join(before[:2])
    log.log({"step": 3})
    log.close()
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]


@pytest.mark.parametrize("torn", [b'{"step": 3, "tra', b'{"step": 3}', b"\x00\xff\n"])
def test_a_torn_last_line_is_dropped(path, torn):
    write(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    MetricsLog(path).resume(9)
    assert path.read_bytes() == whole


def test_a_whole_file_is_not_rewritten(path):
    write(path, 1, 2)
    before = path.stat()
    MetricsLog(path).resume(2)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_damage_in_the_middle_is_named(path):
    write(path, 1)
    path.write_bytes(path.read_bytes() + b"oops\n" + b'{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 2 is b'oops'"):
        read_metrics(path)
    with pytest.raises(CheckpointError, match="line 2"):
        MetricsLog(path).resume(5)


@pytest.mark.parametrize(
    "line",
    ["{}", '{"tokens": 3}', '{"step": 1.5}', '{"step": 1, "x": "y"}', '{"step": 1, "x": NaN}'],
)
def test_a_line_that_was_not_logged_is_named(path, line):
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(CheckpointError, match="line 2 is"):
        read_metrics(path)


def test_resume_without_a_file_makes_none(path):
    MetricsLog(path).resume(0)
    assert not path.exists()


@pytest.mark.parametrize("wrong", [{"train/loss": 1.0}, {"step": 1, "note": "hello"}])
def test_a_line_is_numbers_with_a_step(path, wrong):
    with pytest.raises(TypeError, match=r"note|step"):
        MetricsLog(path).log(wrong)
    assert not path.exists()


def info(tmp_path):
    return RunInfo(directory=tmp_path, name="x", recipe={})


def test_the_jsonl_tracker_writes_in_the_run_directory(tmp_path):
    tracker = Jsonl(file="more/extra.jsonl").build(info(tmp_path))
    tracker.resume(0)
    tracker.log({"step": 1})
    tracker.close()
    assert json.loads((tmp_path / "more" / "extra.jsonl").read_text()) == {"step": 1}


@pytest.mark.parametrize(
    "file",
    [
        "metrics.jsonl",
        "./metrics.jsonl",
        "../x.jsonl",
        "/x.jsonl",
        "a/../../x.jsonl",
        "recipe.toml",
        "",
    ],
)
def test_the_jsonl_tracker_keeps_out_of_other_places(tmp_path, file):
    with pytest.raises(RecipeError, match='tracker "jsonl", file'):
        Jsonl(file=file).build(info(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_columns_hold_what_was_logged_without_nulls_and_damaged_lines(path):
    path.write_text(
        '{"step": 1, "a": 0.5}\nx\n{"step": 2, "a": null, "b": 3}\n{"step": 2, "a": 1}\n{"st'
    )
    said: list[str] = []
    found = read_columns(path, said.append)
    assert found.last == 2
    columns = {name: (list(c.steps), list(c.values)) for name, c in found.columns.items()}
    assert columns == {"a": ([1, 2], [0.5, 1.0]), "b": ([2], [3.0])}
    assert "line 2 is b'x'" in said[0]
    assert list(found["never logged"].values) == []
    with pytest.raises(CheckpointError, match="line 2"):
        read_columns(path)
