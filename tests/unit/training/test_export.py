"""What is left of a trained network: its checkpoints for later versions, its weights for others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from mdmkit import load_recipe, train
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.errors import PluginError
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained
from mdmkit.network import Root
from mdmkit.recipe import recipe_hash
from mdmkit.training import finish, tensor_files
from mdmkit.training.checkpoint import damage, last_checkpoint, load_checkpoint, load_weights
from mdmkit.training.distributed import World, full_state

CPU = torch.device("cpu")
OLD = Path(__file__).with_name("format_1")
"""A checkpoint as the first version of the format was written (mdmkit 0.1.0, torch 2.13)."""


def test_a_checkpoint_of_format_1_loads(tmp_path: Path) -> None:
    run = shutil.copytree(OLD, tmp_path / "run")
    path = last_checkpoint(run, pytest.fail)
    assert path is not None
    assert damage(path) is None
    matrix = torch.arange(6.0).view(2, 3)
    expected = {
        "model/denoiser.weight": matrix,
        "ema/denoiser.weight": matrix + 0.5,
        "optimizer/exp_avg/denoiser.weight": torch.full((2, 3), 0.25),
        "optimizer/step/denoiser.weight": torch.tensor(3.0),
        "window": torch.arange(8, dtype=torch.float64),
    }
    found = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    facts = load_checkpoint(path, found, world=World(device=CPU))
    assert facts == {"step": 3, "seconds": 1.5, "validated": 2, "components": {}}
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_are_loaded_without_the_optimizers_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Noting(tensor_files._Reader):
        def read_data(self, plan: Any, planner: Any) -> Any:
            read.extend(item.storage_index.fqn for item in plan.items)
            return super().read_data(plan, planner)

    monkeypatch.setattr(tensor_files, "_Reader", Noting)
    assert load_weights(OLD).state["denoiser.weight"][1, 2] == 5.5
    assert load_weights(OLD, ema=False).state["denoiser.weight"][1, 2] == 5.0
    assert read == ["ema/denoiser.weight", "model/denoiser.weight"]


def test_the_whole_state_comes_together_on_rank_zero_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3))
    module[1].weight = nn.Parameter(module[0].weight.detach().t())  # a view of the same memory
    state = full_state(module, World(rank=0, size=2, device=CPU))
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        name: tensor.dtype for name, tensor in module.state_dict().items()
    }
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    memory = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    assert len(memory) == len(state)  # safetensors refuses tensors that share it
    assert full_state(module, World(rank=1, size=2, device=CPU)) == {}


def test_the_exported_weights_are_enough_elsewhere(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise PluginError("no text")

    monkeypatch.setattr(finish, "generate_samples", broken)  # which must not cost the weights
    recipe = load_recipe(tiny_recipe, ["denoiser.tied=true"])
    with pytest.raises(PluginError, match="no text"):
        train(recipe)
    run = find_run("tiny")
    network = recipe.denoiser.build(load_tokenizer(run / "tokenizer.json").vocab)
    network.load_state_dict(load_file(run / "model.safetensors"))  # every name, no other
    averaged = load_weights(run).fit(Root(network))  # tied: two names, of which one is averaged
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, averaged[f"denoiser.{name}"])
    evaluated = open_trained(run).call.root.state_dict()
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in evaluated.items())
    with safe_open(run / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    facts = json.loads(metadata["facts"])
    assert metadata["format"] == "pt"
    assert facts["run"] == {"name": "tiny", "recipe_hash": recipe_hash(recipe)}
    assert facts["checkpoint"] == {"step": 12, "ema": True}
