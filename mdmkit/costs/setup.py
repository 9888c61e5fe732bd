"""What of a recipe and a number of GPUs decides the memory of one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from attrs import frozen

from mdmkit.costs.activations import Checkpointing
from mdmkit.errors import RecipeError
from mdmkit.training.batches import split_batch
from mdmkit.training.distributed import World
from mdmkit.training.sharding import mesh_shape

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@frozen(kw_only=True)
class Setup:
    """How a network is spread over GPUs, and what each of them does at once.

    Attributes:
        gpus: N, all of them.
        shards: GPUs that share one copy of weights, gradients and optimizer state.
        rows: of a micro-batch.
        accumulation: micro-batches of a GPU in a step.
        autocast: whether the forward runs under the autocast to bfloat16.
        weights: dtype of the weights, and of their gradients.
        used: dtype in which weights are gathered for use.
        reduced: dtype in which gradients are summed over GPUs.
        reshard: whether gathered weights are freed after the forward of their block.
        checkpointing: of the blocks' activations.
        compiled: whether blocks are compiled.
        offloaded: whether weights, gradients and optimizer state stay on the CPU.
    """

    gpus: int
    shards: int
    rows: int
    accumulation: int
    autocast: bool
    weights: torch.dtype
    used: torch.dtype
    reduced: torch.dtype
    reshard: bool
    checkpointing: Checkpointing
    compiled: bool
    offloaded: bool

    @property
    def copies(self) -> int:
        """How often there is the whole network."""
        return self.gpus // self.shards

    @property
    def mode(self) -> Literal["one GPU", "ddp", "fsdp", "hsdp"]:
        """What that is called."""
        if self.gpus == 1:
            return "one GPU"
        if self.shards == 1:
            return "ddp"
        return "fsdp" if self.copies == 1 else "hsdp"


def setup_of(recipe: Recipe, group: int, *, gpus: int, gpus_per_node: int = 8) -> Setup:
    """How `recipe` runs on so many GPUs.

    Args:
        recipe: with ``[parallel]`` and ``[train]``.
        group: rows of the global batch that belong together, of the objective.
        gpus: N.
        gpus_per_node: of them, in one machine.

    Raises:
        RecipeError: where the batch, or copies of the network, do not come out even.
    """
    train, parallel = recipe.train, recipe.parallel
    node = min(gpus, gpus_per_node)
    world = World(size=gpus, node_size=0 if gpus % node else node, device=torch.device("meta"))
    accumulation = split_batch(train, group, world)
    weights = torch.bfloat16 if train.precision == "bf16_weights" else torch.float32
    used = DTYPES[parallel.param_dtype] if parallel.param_dtype else weights
    used = used if gpus > 1 else weights
    if gpus == 1 and parallel.cpu_offload:
        raise RecipeError(
            "[parallel] cpu_offload: needs at least 2 processes; leave it out, or plan more --gpus"
        )
    return Setup(
        gpus=gpus,
        shards=mesh_shape(parallel, world)[-1],
        rows=train.global_batch_size // gpus // accumulation,
        accumulation=accumulation,
        autocast=train.precision != "fp32",
        weights=weights,
        used=used,
        reduced=DTYPES[parallel.reduce_dtype] if parallel.reduce_dtype else used,
        reshard=parallel.reshard_after_forward,
        checkpointing=parallel.activation_checkpointing,
        compiled=parallel.compile,
        offloaded=gpus > 1 and parallel.cpu_offload,
    )
