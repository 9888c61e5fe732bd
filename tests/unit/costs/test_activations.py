"""What is counted on the meta device against tensors that real steps keep."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from mdmkit.costs.activations import LiveMemory, step_memory
from mdmkit.costs.dry import dry_objective
from mdmkit.network import autocast
from mdmkit.recipe import load_recipe
from mdmkit.training.activation import checkpoint_block
from mdmkit.values import Vocabulary

LENGTH, ROWS, V = 512, 2, 300  # longer than what attention on a CPU does by the plain formula
TRANSFORMER = "denoiser={use='transformer', width=64, depth=3, heads=2}"
CPU = torch.device("cpu")
SMALL = [f"data.length={LENGTH}", "denoiser.width=64", "denoiser.depth=3", "denoiser.heads=2"]


def recipe_of(*more: str):
    return load_recipe("quickstart_bell", [*SMALL, *more])


def build(recipe) -> nn.Module:
    return recipe.denoiser.build(Vocabulary(size=V, mask_id=V - 1))


def saved_bytes(network: nn.Module, dry, precision: str) -> int:
    """Bytes of the storages that a real forward saves for its backward, weights left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    noised = dry.corrupted(ROWS)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, autocast(CPU, precision):
        loss = dry.objective.loss(network, noised)
    del loss
    return sum(saved.values())


VARIANTS = [
    (), ("denoiser.adaln=true", "denoiser.tied=false"), ("denoiser.dropout=0.1",),
    ("objective.use=mixed_causal",), ("data.packing.use=document",), (TRANSFORMER,),
]  # fmt: skip


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("more", VARIANTS, ids=" ".join)
def test_what_a_forward_keeps(more, precision):
    recipe = recipe_of(*more)
    network, dry = build(recipe), dry_objective(recipe, V)
    found = step_memory(network, dry, rows=ROWS, autocast=precision == "bf16")
    real = saved_bytes(network, dry, precision)
    assert found.activations + found.casts == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_the_peak_of_a_step(checkpointing):
    """The same count around a real step: how the CPU computes differs only in small things."""
    recipe = recipe_of()
    network, dry = build(recipe), dry_objective(recipe, V)
    found = step_memory(network, dry, rows=ROWS, autocast=True, checkpointing=checkpointing)
    for block in network.blocks:
        checkpoint_block(block, checkpointing)
    noised = dry.corrupted(ROWS)
    with LiveMemory(network) as memory:
        with autocast(CPU, "bf16"):
            loss = dry.objective.loss(network, noised)
        loss.total.backward()
    assert found.peak == pytest.approx(memory.peak, rel=0.1)


def test_checkpointing_keeps_less_and_less():
    recipe = recipe_of()
    network, dry = build(recipe), dry_objective(recipe, V)
    kept = {
        mode: step_memory(network, dry, rows=ROWS, autocast=True, checkpointing=mode).activations
        for mode in ("none", "selective", "full")
    }
    inputs = 3 * ROWS * LENGTH * 64 * 4  # of each block, float32
    assert kept["none"] > 1.5 * kept["selective"] > 2 * kept["full"]
    assert kept["full"] >= inputs


def test_weights_are_kept_in_bfloat16_until_the_backward():
    recipe = recipe_of()
    network = build(recipe)
    matrices = sum(p.numel() for block in network.blocks for p in block.parameters() if p.ndim > 1)
    biases = sum(p.numel() for block in network.blocks for p in block.parameters() if p.ndim == 1)
    found = step_memory(network, dry_objective(recipe, V), rows=ROWS, autocast=True)
    assert 2 * matrices <= found.casts <= 2 * (matrices + biases + V * 64) + 512 * 50


def test_gradients_that_were_there_before_count_all_the_time():
    recipe = recipe_of()
    network, dry = build(recipe), dry_objective(recipe, V)
    first, later, elsewhere = (
        step_memory(network, dry, rows=ROWS, autocast=True, **how).peak
        for how in ({}, {"accumulated": True}, {"gradients": False})
    )
    gradients = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert later - elsewhere == pytest.approx(gradients, rel=0.01)
    assert elsewhere <= first <= later


def test_the_network_stays_as_it_was():
    recipe = recipe_of()
    network = build(recipe)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outside = torch.autocast
    step_memory(network, dry_objective(recipe, V), rows=1, autocast=True, checkpointing="full")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.autocast is outside


def test_autocast_is_obeyed_on_the_meta_device():
    from mdmkit.costs.meta import LikeCuda

    x, layer = torch.empty(2, 4, device="meta"), nn.Linear(4, 4, device="meta")
    with LikeCuda(autocast=True):
        assert layer(x).dtype is torch.bfloat16
        assert (x @ x.T).softmax(-1).dtype is torch.float32
        with torch.autocast("meta", enabled=False):
            assert layer(x).dtype is torch.float32
        with contextlib.suppress(ValueError), torch.autocast("meta", enabled=False):
            raise ValueError
        assert layer(x).dtype is torch.bfloat16
    with LikeCuda(autocast=False):
        assert layer(x).dtype is torch.float32
