from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from mdmkit.errors import CheckpointError
from mdmkit.evaluation.analysis_files import (
    Analysis,
    kept_results,
    read_analysis,
    write_analysis,
)
from mdmkit.evaluation.driver import Result
from mdmkit.report.pictures import figure, print_picture, write_pictures
from mdmkit.values import HeatMap, Line, Measurement, Picture, picture_from_json

LINES = Picture(
    title="CE by distance, 5 $ a piece",
    x_label="distance (tokens)",
    y_label="nats per masked token",
    lines=(
        Line(name="<b>left</b>", x=(1.0, 2.0, 4.0), y=(1.5, 2.0, 2.5), stderr=(0.1, 0.2, 0.0)),
        Line(name="exact", x=(1.0, 4.0), y=(1.4, 2.6), known=True),
    ),
    log_x=True,
    log_y=True,
    note="It rises.",
)
MAP = HeatMap(
    title="CE by both",
    x_label="right",
    y_label="left",
    value_label="nats",
    columns=("1", "2", "none"),
    rows=("1", "2"),
    values=((1.0, 2.0, None), (2.0, 3.0, 4.0)),
    stderr=((0.1, 0.2, None), (0.2, 0.3, 0.4)),
)


def result(step: int, **provenance: object) -> Result:
    return Result(
        label="locality",
        measurements={"near": Measurement(value=1.0 + step, stderr=0.5, unit="nats")},
        provenance={"seed": 0, "checkpoint": {"step": step, "ema": True}, **provenance},
        pictures={"lines": LINES, "map": MAP},
    )


@pytest.mark.parametrize("picture", [LINES, MAP])
def test_a_picture_comes_back_from_json(picture: Picture | HeatMap) -> None:
    assert picture_from_json(json.loads(json.dumps(picture.to_json()))) == picture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": ()}, "has no points"),
        ({"y": (1.0,)}, "3 x and 1 y"),
        ({"stderr": (0.1,)}, "3 x and 1 stderr"),
        ({"y": (1.0, float("nan"), 2.0)}, "no finite numbers"),
        ({"y": (1.0, "2", 2.0)}, "no finite numbers"),
        ({"stderr": (0.1, -0.1, 0.1)}, "below 0"),
    ],
)
def test_a_line_without_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Line(**{"name": "a", "x": (1.0, 2.0, 3.0), "y": (1.0, 2.0, 3.0), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ("1",)}, "values are not 1 rows of 3"),
        ({"stderr": ((0.1,), (0.1,))}, "stderr are not 2 rows of 3"),
        ({"values": ((None,) * 3,) * 2}, "nothing was measured"),
        ({"values": ((float("inf"),) * 3,) * 2}, "no finite numbers"),
    ],
)
def test_a_heat_map_with_holes_is_refused(changes: dict[str, object], message: str) -> None:
    from attrs import evolve

    with pytest.raises(ValueError, match=message):
        evolve(MAP, **changes)


def test_every_number_of_a_small_picture_is_printed() -> None:
    console = Console(width=200, record=True, force_terminal=False)
    print_picture(console, "locality/lines", LINES)
    print_picture(console, "locality/map", MAP)
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["<b>left</b>", "1.5", "±", "0.1", "2", "±", "0.2", "2.5", "±", "0"] in rows
    assert ["exact", "(known)", "1.4", "2.6"] in rows  # nothing at 2
    assert ["1", "1", "±", "0.1", "2", "±", "0.2", "-"] in rows
    assert ["It", "rises."] in rows


def test_pictures_become_the_same_files_each_time(tmp_path: Path) -> None:
    drawn = {"lines": LINES, "map": MAP}
    paths = list(write_pictures(tmp_path, "locality", drawn))
    assert [path.name for path in paths] == ["locality-lines.svg", "locality-map.svg"]
    assert paths[0].read_bytes() == figure(LINES)
    assert b"<svg" in paths[1].read_bytes()
    assert figure(MAP, "png").startswith(b"\x89PNG")


def test_an_analysis_comes_back_from_its_file(tmp_path: Path) -> None:
    told: list[str] = []
    analysis = Analysis(
        label="locality", steps={100: result(100), 200: result(200)}, over_training={"way": LINES}
    )
    write_analysis(tmp_path / "analysis", analysis, told.append)
    path = tmp_path / "analysis" / "locality.json"
    assert read_analysis(path) == analysis
    assert read_analysis(path).last.measurements["near"].value == 201
    assert [name for name, _ in analysis.pictures()] == ["lines", "map", "way_over_training"]
    assert told == [f"{path}: written"]


def test_results_of_other_steps_are_kept_where_they_were_measured_alike(tmp_path: Path) -> None:
    path = tmp_path / "locality.json"
    assert kept_results(path, result(300), 300) == {}
    steps = {100: result(100), 200: result(200, seed=1), 300: result(300)}
    write_analysis(tmp_path, Analysis(label="locality", steps=steps), lambda _: None)
    assert kept_results(path, result(300), 300) == {100: result(100)}  # 200: another seed
    assert kept_results(path, result(300, precision="bf16"), 300) == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"label": "a", "steps": {}, "over_training": {}}'])
def test_a_damaged_file_is_told_in_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "locality.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"locality\.json: cannot be read .*analyze again"):
        read_analysis(path)
    assert kept_results(path, result(1), 1) == {}


def test_references_differ_in_their_dashes():
    pytest.importorskip("matplotlib", reason="pictures are drawn by it")
    lines = [Line(name=f"k{n}", x=(0.0, 1.0), y=(n, n), known=True) for n in range(4)]
    drawn = figure(Picture(title="t", x_label="x", y_label="y", lines=lines)).decode()
    assert len(set(re.findall(r"stroke-dasharray: ([^;]+);", drawn))) == 4
