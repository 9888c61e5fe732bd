"""Weights from elsewhere as a run, and runs without checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdmkit import CheckpointError, evaluate, load_recipe, open_run, train, write_run
from mdmkit.evaluation import write_run as module
from mdmkit.evaluation.run import load_into
from mdmkit.recipe import Recipe


@pytest.fixture
def trained(tiny_recipe: Path) -> Path:
    return train(load_recipe(tiny_recipe, ["train.steps=4"])).directory


@pytest.fixture
def weights(trained: Path) -> dict[str, Tensor]:
    return load_file(trained / "model.safetensors")


@pytest.fixture
def recipe(trained: Path) -> Recipe:
    return load_recipe(trained / "recipe.toml")


BIAS = "output_layer.linear.bias"


def value(run: Path) -> float:
    return evaluate(run, device="cpu")["held_out"].measurements["nelbo_per_token"].value


def test_weights_from_elsewhere_are_a_run(
    trained: Path, weights: dict[str, Tensor], recipe: Recipe, tmp_path: Path
) -> None:
    turned = {k: w.t().contiguous().t() if w.ndim == 2 else w for k, w in weights.items()}
    made = write_run(
        tmp_path / "new" / "run", recipe, weights=turned, source={"from": "a file"}, step=7
    )
    assert json.loads((made / "imported.json").read_text()) == {"from": "a file"}
    assert sorted(path.name for path in made.parent.iterdir()) == ["run"]
    found = open_run(made)
    assert (found.step, found.ema, found.recipe) == (7, False, recipe)
    assert value(made) == value(trained)
    with pytest.raises(CheckpointError, match="holds weights that were imported"):
        train(recipe, resume=made)
    with pytest.raises(CheckpointError, match="is there already"):
        write_run(made, recipe, weights=weights, source={})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda w: w.pop("vocab_embed.embedding"), r"vocab_embed.embedding: the weights have noth"),
        (
            lambda w: w.update(more=torch.zeros(2)),
            r"denoiser.more: the weights have \(2,\), the",
        ),
        (
            lambda w: w.update({"output_layer.linear.bias": torch.zeros(3)}),
            r"output_layer.linear.bias: the weights have \(3,\), the network \(280,\)",
        ),
        (
            lambda w: w.update({BIAS: w[BIAS].to(torch.int8)}),
            r"denoiser.output_layer.linear.bias: expected floats, got torch.int8",
        ),
        (
            lambda w: w.update({BIAS: w[BIAS] * torch.nan}),
            r"denoiser.output_layer.linear.bias: holds values that are not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_leave_nothing(
    weights: dict[str, Tensor],
    recipe: Recipe,
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], object],
    line: str,
) -> None:
    change(weights)
    with pytest.raises(CheckpointError, match=line):
        write_run(tmp_path / "new" / "run", recipe, weights=weights, source={})
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_kept_or_is_in_the_way(
    weights: dict[str, Tensor], recipe: Recipe, tmp_path: Path
) -> None:
    target = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"source: cannot be kept as JSON \(Object of type"):
        write_run(target, recipe, weights=weights, source={"from": Path("x")})
    with pytest.raises(CheckpointError, match="step: expected at least 0, got -1"):
        write_run(target, recipe, weights=weights, source={}, step=-1)
    target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is there already"):
        write_run(target, recipe, weights=weights, source={})


def test_a_write_that_breaks_off_leaves_nothing(
    weights: dict[str, Tensor], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_run(tmp_path / "new" / "run", recipe, weights=weights, source={})
    assert list((tmp_path / "new").iterdir()) == []


def test_a_run_without_checkpoints_is_read_from_its_one_file(trained: Path) -> None:
    before = open_run(trained)
    wanted = value(trained)
    shutil.rmtree(trained / "checkpoints")
    after = open_run(trained)
    assert (after.step, after.ema) == (before.step, before.ema) == (4, True)
    assert after.weights_sha256() == before.weights_sha256()
    assert value(trained) == wanted
    assert open_run(trained, checkpoint=4).step == 4
    with pytest.raises(CheckpointError, match="no checkpoint of step 2; there are none at all"):
        open_run(trained, checkpoint=2)
    with pytest.raises(CheckpointError, match="has only averaged weights; leave out --no-ema"):
        open_run(trained, ema=False)
    (trained / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
        open_run(trained)


def test_a_run_without_checkpoints_is_not_trained_anew(trained: Path, recipe: Recipe) -> None:
    folder = trained / "checkpoints"
    for path in folder.glob("step-*"):
        (path / "manifest.json").unlink()
    log = (trained / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"set aside: .*bad-step-00000004\. The weights in"):
        train(recipe, resume=trained)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"to go on from\. The .* remove the directory"):
        train(recipe)  # the same command
    assert (trained / "metrics.jsonl").read_bytes() == log
    (trained / "model.safetensors").unlink()  # killed before its first checkpoint
    assert train(recipe).directory == trained


def test_a_file_that_does_not_say_what_it_is_is_refused(trained: Path) -> None:
    shutil.rmtree(trained / "checkpoints")
    save_file(load_file(trained / "model.safetensors"), trained / "model.safetensors")
    with pytest.raises(CheckpointError, match="expected the weights that a run writes at its end"):
        open_run(trained)


def test_tied_weights_are_written_under_both_names(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=4", "denoiser.tied=true"])
    trained = train(recipe).directory
    root = open_run(trained).call.root
    named = {k.removeprefix("denoiser."): v for k, v in root.state_dict().items()}
    made = write_run(tmp_path / "run", recipe, weights=named, source={}, step=4, ema=True)
    assert value(made) == value(trained)
    load_into(open_run(made).call.root, root.state_dict(), where="here")
