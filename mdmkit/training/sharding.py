"""The network spread over processes, and when their gradients are summed.

All of it is torch's FSDP2 (`fully_shard`) on meshes of three forms: one axis of shards (fsdp), an
axis of copies by an axis of shards (hsdp), and the same with shards of one process (ddp: each has
everything, gradients are summed block by block while the backward goes on). One engine means one
kind of checkpoint, the same names of parameters everywhere, and no need that each parameter has a
gradient in each micro-batch.

Sums cross ranks, averages never do: FSDP's averaging of gradients is switched off, and the loss is
divided by a global count before the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from mdmkit.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdmkit.recipe import Parallel
    from mdmkit.training.distributed import World

_DTYPES = {None: None, "fp32": torch.float32, "bf16": torch.bfloat16}


def mesh_shape(parallel: Parallel, world: World) -> tuple[int, ...]:
    """How the processes are laid out: ``(shards,)``, or ``(copies, shards of each)``.

    Raises:
        RecipeError: where copies of ``shard_size`` processes do not come out even.
    """
    mode = parallel.mode
    if mode == "auto":
        # One process a machine: what links them is all there is, so spread over all of them.
        several = 1 < world.node_size < world.size
        mode = "hsdp" if parallel.shard_size or several else "fsdp"
    if mode == "fsdp":
        return (world.size,)
    shards = 1 if mode == "ddp" else parallel.shard_size or world.node_size
    if not shards:
        raise RecipeError(
            "[parallel] shard_size: the machines have different numbers of processes; say how many "
            "share one copy"
        )
    if world.size % shards:
        raise RecipeError(
            f"[parallel] shard_size: {world.size} processes do not make copies of {shards} each; "
            f'choose a divisor of {world.size}, or mode = "fsdp"'
        )
    return (world.size // shards, shards) if shards < world.size else (shards,)


def shard(root: nn.Module, blocks: Sequence[nn.Module], parallel: Parallel, world: World) -> None:
    """Spread parameters, gradients and optimizer state over the ranks, in place.

    Every block is a unit of its own, gathered and summed by itself; what is left (embedding, head)
    belongs to the root. One process has nothing to spread.

    Raises:
        RecipeError: where the processes do not fit the layout.
    """
    offload = parallel.cpu_offload and world.device.type == "cuda"  # else it is there already
    if world.size == 1:
        if offload:
            raise RecipeError(
                "[parallel] cpu_offload: needs at least 2 processes; leave it out, or start more "
                "with --nproc"
            )
        return
    mesh = _mesh(mesh_shape(parallel, world), world.device)
    for module in (*blocks, root):
        fully_shard(
            module,
            mesh=mesh,
            reshard_after_forward=parallel.reshard_after_forward,
            # Inputs stay as they are: times and rotations need float32, and autocast decides.
            mp_policy=MixedPrecisionPolicy(
                param_dtype=_DTYPES[parallel.param_dtype],
                reduce_dtype=_DTYPES[parallel.reduce_dtype],
                cast_forward_inputs=False,
            ),
            offload_policy=CPUOffloadPolicy() if offload else OffloadPolicy(),
        )
    for unit in _units(root):  # both are needed on every unit, or torch averages
        unit.set_force_sum_reduction_for_comms(True)
        unit.set_gradient_divide_factor(1.0)


def communicate(root: nn.Module, parallel: Parallel, *, last: bool) -> None:
    """Before the forward of a micro-batch: say whether it is the step's last.

    The gradients of the others are added up where they are, whole, and cross ranks with the last.
    Weights that stay gathered after the forward stay until then, too.
    """
    if isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(last)
        root.set_reshard_after_backward(last or parallel.reshard_after_forward)


def reshard(root: nn.Module) -> None:
    """Let go of gathered weights, which do not follow when a shard is written to."""
    for unit in _units(root):
        unit.reshard()


def _mesh(shape: tuple[int, ...], device: torch.device) -> DeviceMesh:
    names = ("shard",) if len(shape) == 1 else ("copy", "shard")
    return init_device_mesh(device.type, shape, mesh_dim_names=names)


def _units(root: nn.Module) -> list[FSDPModule]:
    return [module for module in root.modules() if isinstance(module, FSDPModule)]
