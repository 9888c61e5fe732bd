"""Several processes as one: who is there, sums over all, and the whole of what is sharded.

Sums and counts cross ranks, averages never do.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from attrs import evolve, frozen
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from mdmkit.errors import RecipeError
from mdmkit.network import choose_device

T = TypeVar("T")

_PATIENCE = timedelta(days=7)
"""How long processes wait for one that prepares text: it may tokenize a corpus."""

_SETTLING = 0.5
"""Seconds that gloo's threads get to let go of the tensors of the last call. A thread that is late
needs Python for that, and takes down a process which is just ending (pytorch/pytorch#179291)."""


@frozen(kw_only=True)
class World:
    """The processes of a run.

    Attributes:
        rank: this process, 0-based.
        size: how many there are.
        node_size: how many of them each machine has; 0 where machines differ.
        device: where this one computes.
        group: what their calls go over; torch's default group if it is None.
        patient: a group for waiting until one process has prepared something, for days.
    """

    rank: int = 0
    size: int = 1
    node_size: int = 1
    device: torch.device
    group: dist.ProcessGroup | None = None
    patient: dist.ProcessGroup | None = None

    def beside(self) -> World:
        """The same processes over a group of their own (a collective call).

        For one thread beside the main one: calls of two threads over one group would get mixed
        up. It is gloo wherever the processes compute, and meant for plain objects.
        """
        return self if self.size == 1 else evolve(self, group=dist.new_group(backend="gloo"))

    def sum(self, tensor: Tensor) -> Tensor:
        """The elementwise sum over ranks, on the device and in the dtype of `tensor`."""
        if self.size == 1:
            return tensor
        total = tensor.detach().clone().to(self.device)
        dist.all_reduce(total, group=self.group)
        return total.to(tensor.device)

    def share(self, value: T) -> T:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.group)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, in the order of the ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier(group=self.group)

    def wait(self) -> None:
        """Wait for every rank, however long one of them works alone; see `rank_zero_first`."""
        if self.size > 1:
            dist.barrier(group=self.patient or self.group)


@contextlib.contextmanager
def open_world(device: str = "auto") -> Iterator[World]:
    """The world that torchrun's environment describes; a single process without it.

    Args:
        device: ``auto``, ``cpu`` or a CUDA device; under torchrun each rank takes the CUDA
            device of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if size == 1:
        yield World(device=chosen)
        return
    if chosen.type == "cuda":
        if ":" in device:
            raise RecipeError(
                f'device: "{device}" is one GPU, and these are {size} processes, each with its '
                "own; leave it to auto, or choose GPUs with CUDA_VISIBLE_DEVICES"
            )
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    ours = not dist.is_initialized()
    if ours:
        # Beside NCCL, gloo sums what lies on the CPU (the gradients' norm under cpu_offload).
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=_store(), rank=int(os.environ["RANK"]), world_size=size
        )
    try:
        patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
        world = World(rank=dist.get_rank(), size=size, device=chosen, patient=patient)
        here = set(world.gather(int(os.environ.get("LOCAL_WORLD_SIZE", size))))
        yield evolve(world, node_size=here.pop() if len(here) == 1 else 0)
    finally:
        if ours:
            dist.destroy_process_group()
            time.sleep(_SETTLING)


def _store() -> Store:
    """Where processes read how to reach each other, free of what earlier ones wrote there.

    torchrun keeps one store over its restarts, so a process that is started again may take the
    address of a dead one for that of its successor (pytorch/pytorch#135712). On one machine the
    number of restarts tells them apart; machines may count differently, and are left as they are.
    """
    store, _, _ = next(iter(rendezvous("env://")))
    alone = os.environ.get("GROUP_WORLD_SIZE") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    return PrefixStore(f"mdmkit/{attempt}", store)


@contextlib.contextmanager
def rank_zero_first(world: World) -> Iterator[None]:
    """Rank 0 does the body alone, then the others do it: for what one process prepares."""
    if world.rank > 0:
        world.wait()
    yield
    if world.rank == 0:
        world.wait()


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor (a collective call); a plain tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; a plain tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_state(module: nn.Module, world: World) -> dict[str, Tensor]:
    """The module's state with whole tensors on rank 0's CPU (a collective call).

    One after the other: the other ranks get nothing, and hold one whole tensor at a time.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        whole = full(tensor).detach()
        if world.rank == 0:
            state[name] = whole.to("cpu", copy=True)
    return state
