from __future__ import annotations

import json
from collections.abc import Callable
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
        about_network = name in ("gradient", "locality", "loss_by_mask_ratio")
        assert list(analysis.steps) == [12 if about_network else 0]
        assert analysis.last.pictures
        assert any(line.partition(" · ")[0] == name for line in said.lines), said.out
        facts = analysis.last.provenance
        assert facts.get("checkpoint") == ({"step": 12, "ema": True} if about_network else None)
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


PLUGIN = """
    from attrs import frozen
    from mdmkit import DataError, hookimpl, option
    from mdmkit.values import Measurement

    class Live:
        provenance = {}

        def __init__(self, pictures):
            self.pictures = pictures

        def __len__(self):
            return 0

        def compute(self):
            return {"one": Measurement(value=1.0, stderr=0.1)}

    @frozen(kw_only=True)
    class Refusing:
        subject = "recipe"

        def build(self, context):
            raise DataError("there is nothing to see")

    @frozen(kw_only=True)
    class Undrawn:
        subject = "recipe"

        def build(self, context):
            return Live(lambda: {}["no such"])

    @frozen(kw_only=True)
    class Demanding:
        subject = "recipe"
        size: int = option()

        def build(self, context):
            return Live(dict)

    @frozen(kw_only=True)
    class Calling:
        subject = "corpus"

        def build(self, context):
            return context.call(lambda denoiser: None)

    @hookimpl
    def mdmkit_evaluators():
        return {"a_refusing": Refusing, "undrawn": Undrawn, "demanding": Demanding,
                "calling": Calling}
"""


def test_one_that_fails_costs_no_other(
    distribution: Callable[..., Path],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distribution("mdmkit-odd", PLUGIN)
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-odd")
    out = ("--out", tmp_path / "found", "--json")
    said = mdmkit("analyze", finished, "--only", "a_*,undrawn,calling,context", *SMALL[-2:], *out)
    assert said.code == 1
    assert set(json.loads(said.out)) == {"undrawn", "context"}  # numbers without their pictures
    assert "a_refusing: there is nothing to see" in said.err
    assert "undrawn: its pictures cannot be made: KeyError: 'no such'" in said.err
    assert 'calling: evaluator "calling": calls the network, but says' in said.err
    kept = read_analysis(tmp_path / "found" / "undrawn.json")
    assert kept.last.measurements["one"].value == 1
    assert "KeyError" in kept.last.pictures_failed
    assert "checkpoint" not in kept.last.provenance  # it is about no weights
    assert list(kept.steps) == [0]
    assert "nothing to see" in refused("analyze", finished, "--only", "a_refusing")
    # evaluated by itself, its numbers are there as well, and what failed is said
    said = mdmkit("eval", finished, "--json", *changed("evaluators.undrawn.use=undrawn"))
    assert json.loads(said.out)["undrawn"]["measurements"]["one"]["value"] == 1
    assert "undrawn: its pictures cannot be made: KeyError" in said.err
    # one that needs options is not made unasked
    said = mdmkit("analyze", finished, "--only", "demanding", *out)
    assert "size: missing" in said.err
    said = mdmkit("analyze", finished, "--only", "demanding", *out,
                  *changed("evaluators.demanding.size=1"))  # fmt: skip
    assert said.code == 0, said.err


def test_of_next_token_prediction_there_is_what_applies(recipe: Path, tmp_path: Path) -> None:
    causal = changed("objective.use=autoregressive", "sampler.use=autoregressive")
    said = mdmkit("analyze", recipe, *SMALL, *causal, "--json")
    assert said.code == 0, said.err
    assert list(json.loads(said.out)) == ["mutual_information"]
    assert "left out: locality: is not for runs of this objective" in said.err


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
