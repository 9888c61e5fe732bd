"""How processes are laid out, and when gradients cross them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint  # before the process group: it warns when imported after
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mdmkit.errors import RecipeError
from mdmkit.recipe import Parallel
from mdmkit.training.distributed import World, local
from mdmkit.training.sharding import communicate, mesh_shape, reshard, shard


def world(size: int, node_size: int, device: str = "cpu") -> World:
    return World(size=size, node_size=node_size, device=torch.device(device))


@pytest.mark.parametrize(
    ("options", "size", "node_size", "shape"),
    [
        ({}, 8, 8, (8,)),  # one machine
        ({}, 16, 8, (2, 8)),  # a copy a machine
        ({}, 16, 1, (16,)),  # one process a machine
        ({}, 12, 0, (12,)),  # machines differ
        ({"shard_size": 4}, 16, 8, (4, 4)),
        ({"shard_size": 4}, 4, 4, (4,)),
        ({"mode": "fsdp"}, 16, 8, (16,)),
        ({"mode": "ddp"}, 16, 8, (16, 1)),
        ({"mode": "hsdp"}, 16, 8, (2, 8)),
        ({"mode": "hsdp"}, 8, 8, (8,)),
        ({"mode": "hsdp", "shard_size": 2}, 4, 4, (2, 2)),
    ],
)
def test_the_mesh(options: dict, size: int, node_size: int, shape: tuple[int, ...]) -> None:
    assert mesh_shape(Parallel(**options), world(size, node_size)) == shape


def test_copies_that_do_not_come_out_even_are_refused() -> None:
    with pytest.raises(RecipeError, match="6 processes do not make copies of 4 each"):
        mesh_shape(Parallel(mode="hsdp", shard_size=4), world(6, 6))
    with pytest.raises(RecipeError, match="do not make copies of 4 each"):
        mesh_shape(Parallel(mode="hsdp", shard_size=4), world(2, 2))
    with pytest.raises(RecipeError, match="different numbers of processes"):
        mesh_shape(Parallel(mode="hsdp"), world(12, 0))


def test_offloading_from_one_gpu_is_refused_and_on_a_cpu_it_is_nothing() -> None:
    with pytest.raises(RecipeError, match="cpu_offload: needs at least 2"):
        shard(nn.Linear(1, 1), [], Parallel(cpu_offload=True), world(1, 1, "cuda"))
    shard(nn.Linear(1, 1), [], Parallel(cpu_offload=True), world(1, 1))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def sharded(parallel: Parallel) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    mesh = init_device_mesh("cpu", (1,))
    for module in (*network, network):
        fully_shard(module, mesh=mesh, reshard_after_forward=parallel.reshard_after_forward)
    return network


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("again", [True, False])
def test_gradients_cross_with_the_last_micro_batch(again: bool) -> None:
    parallel = Parallel(reshard_after_forward=again)
    network, plain = sharded(parallel), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    parts = torch.randn(3, 2, 4)
    plain.load_state_dict({k: v.full_tensor() for k, v in network.state_dict().items()})
    for index, part in enumerate(parts):
        communicate(network, parallel, last=index == 2)
        network(part).square().sum().backward()
        plain(part).square().sum().backward()
        # A gradient appears where it belongs once it is reduced, and weights are let go of then.
        arrived = [p.grad is not None for p in network.parameters()]
        assert arrived == [index == 2] * 4 or (not again and index < 2)
        gathered = not hasattr(next(network[0].parameters()), "to_local")
        assert gathered == (not again and index < 2)
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert local(ours.grad).equal(theirs.grad)


@pytest.mark.usefixtures("group")
def test_weights_that_stay_gathered_are_let_go_of() -> None:
    network, x = sharded(Parallel(reshard_after_forward=False)), torch.ones(1, 4)
    weights = list(network.parameters())
    with torch.no_grad():
        before = network(x)
        reshard(network)
        for weight in weights:
            local(weight).zero_()
        assert before.any()
        assert not network(x).any()
