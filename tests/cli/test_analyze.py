from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdmkit.evaluation.analysis_files import read_analysis

from .commands import changed, files, mdmkit, refused

SMALL = changed(
    "evaluators.locality.blocks=4",
    "evaluators.loss_by_mask_ratio.blocks=6",
    "evaluators.loss_by_mask_ratio.points=4",
    "evaluators.gradient.batches=3",
    "evaluators.gradient.rows=4",
    "evaluators.gradient.reference=1",
    "evaluators.gradient.bins=2",
    "evaluators.mutual_information.types=4",
    "evaluators.context.batches=3",
)
NAMES = ["context", "gradient", "locality", "loss_by_mask_ratio", "mutual_information"]
LOSS = ("--only", "loss_by_mask_ratio", *changed("evaluators.loss_by_mask_ratio.points=3"))


def test_every_analysis_of_a_run(finished: Path) -> None:
    said = mdmkit("analyze", finished, *SMALL)
    assert said.code == 0, said.err
    for name in NAMES:
        path = finished / "analysis" / f"{name}.json"
        assert f"{path}: written" in said.err
        analysis = read_analysis(path)
        assert list(analysis.steps) == [12]
        assert analysis.last.pictures
        assert any(line.startswith(f"{name} · ") for line in said.lines), said.out
        facts = analysis.last.provenance
        assert facts["checkpoint"] == {"step": 12, "ema": True}
        assert facts["run"]["name"] == "tiny"
    again = mdmkit("analyze", finished, *SMALL)
    assert again.out == said.out  # the same seed, the same masks


def test_checkpoints_join_one_file_and_make_pictures_of_the_way(finished: Path) -> None:
    path = finished / "analysis" / "loss_by_mask_ratio.json"
    one = mdmkit("analyze", finished, *LOSS, "--checkpoints", "8")
    assert list(read_analysis(path).steps) == [8], one.err  # other points than before: not kept
    assert not read_analysis(path).over_training
    mdmkit("analyze", finished, *LOSS)
    assert list(read_analysis(path).steps) == [8, 12]
    every = json.loads(mdmkit("analyze", finished, *LOSS, "--checkpoints", "all", "--json").out)[
        "loss_by_mask_ratio"
    ]
    assert every["over_training"]
    assert every == json.loads(path.read_text())
    mdmkit("analyze", finished, *LOSS, "--checkpoints", "8", "--seed", "1")
    assert list(read_analysis(path).steps) == [8]  # other masks: a file holds one kind


def test_a_recipe_alone_has_what_needs_no_network(recipe: Path, tmp_path: Path) -> None:
    said = mdmkit("analyze", recipe, *SMALL, "--out", tmp_path / "found")
    assert said.code == 0, said.err
    assert "left out: gradient: needs a trained network; give a run" in said.err
    written = files(tmp_path / "found")
    assert {name for name in written if name.endswith(".json")} == {
        "context.json",
        "mutual_information.json",
    }
    assert any(name.startswith("context-") and name.endswith(".svg") for name in written)


def test_two_of_one_kind(finished: Path, tmp_path: Path) -> None:
    """An analysis under a label of one's own, with other options."""
    said = mdmkit(
        "analyze", finished, "--only", "context", "--json", "--out", tmp_path,
        *changed('evaluators.mine.use="context"', "evaluators.mine.batches=2",
                 "evaluators.context.batches=3"),
    )  # fmt: skip
    assert set(json.loads(said.out)) == {"context", "mine"}, said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", "--only", "localty"), '--only: no analysis "localty"; did you mean "locality"?'),
        (("tiny", "--checkpoints", "some"), "expected last, all, or steps such as 200,1000"),
        (("tiny", "--checkpoints", "5"), "has no checkpoint of step 5; there are 8, 12"),
        (("tiny", *changed("train.steps=3")), "[train] is fixed once a run is trained"),
        (("tiny", *changed("evaluators.locality.share=2")), "[evaluators.locality] share"),
        (("nothing",), "there is no run of that name either"),
    ],
)
def test_what_does_not_fit_is_told(
    finished: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert finished.is_dir()
    assert message in refused("analyze", *arguments)


def test_of_a_recipe_an_analysis_of_networks_is_refused(recipe: Path) -> None:
    said = refused("analyze", recipe, "--only", "locality")
    assert said.splitlines() == [
        "no analysis is left:",
        "  locality: needs a trained network; give a run",
    ]
