"""Memory of a GPU at the fullest moment of a training step, part by part.

With N parameters of w bytes on s shards, all exact but for the rounding of shards:

    weights N·w/s · gradients N·w/s · AdamW's two averages 2·4·N/s · average of the weights 4·N/s

(of those that are trained, the last three). What the micro-batch needs is measured on the meta
device (`step_memory`), for eager blocks; compiled ones fuse and keep less, so for them it is an
upper bound. Several GPUs also hold what FSDP2 gathers and sums, a unit being a block, and the rest
of the network (embedding, head) one more:

    gathered: the rest, the block at work, the next one, and one more on its way (all blocks where
    they are not freed after the forward), in the dtype in which they are used;
    sums: gradients of the rest and of the block at work, and two buffers of a block that are being
    summed; with accumulation the gradients of everything, since they cross GPUs with the last
    micro-batch only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from attrs import fields, frozen
from torch import nn

from mdmkit.costs.activations import StepMemory, step_memory
from mdmkit.costs.dry import Dry
from mdmkit.costs.meta import on_meta
from mdmkit.costs.setup import Setup
from mdmkit.training.parallel import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterable


_FLOAT32 = 4


@frozen(kw_only=True)
class Memory:
    """Bytes of one GPU.

    Attributes:
        weights: its share of the weights.
        optimizer: its share of AdamW's averages of gradients and of their squares.
        average: its share of the averaged weights.
        gradients: its share of the gradients, as far as they are there at the fullest moment.
        gathered: whole weights of the units that are in use.
        sums: whole gradients on their way to the other GPUs.
        casts: copies of weights in bfloat16 that autocast makes and the backward needs.
        activations: what the forward keeps for the backward.
        working: what is at work at the fullest moment beyond that, such as logits; less than
            nothing where some of the activations are gone by then.
        batch: the micro-batch.
    """

    weights: int
    optimizer: int
    average: int
    gradients: int
    gathered: int
    sums: int
    casts: int
    activations: int
    working: int
    batch: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(Memory))


def measured_step(network: nn.Module, dry: Dry, setup: Setup) -> StepMemory:
    """What a micro-batch needs; it depends on `step_key` alone."""
    several = setup.gpus > 1
    return step_memory(
        cast("nn.Module", on_meta(network)).to(setup.used),
        dry,
        rows=setup.rows,
        autocast=setup.autocast,
        checkpointing=setup.checkpointing,
        gradients=not several,
        accumulated=not several and setup.accumulation > 1,
    )


def step_key(setup: Setup) -> tuple[object, ...]:
    """Equal for setups whose micro-batches need the same."""
    alone = setup.gpus == 1
    accumulated = alone and setup.accumulation > 1
    return (setup.rows, setup.checkpointing, setup.used, setup.autocast, alone, accumulated)


def memory_of(network: nn.Module, dry: Dry, setup: Setup, step: StepMemory | None = None) -> Memory:
    """The memory of one GPU.

    Args:
        network: a denoiser, on any device; its weights are not read.
        dry: the objective of the recipe.
        setup: how it runs.
        step: what `measured_step` says, where it is known.

    Raises:
        RecipeError: where network or objective do not run on the meta device.
    """
    several = setup.gpus > 1
    step = measured_step(network, dry, setup) if step is None else step
    every = _numel(network.parameters())
    trained = _numel(p for p in network.parameters() if p.requires_grad)
    width = setup.weights.itemsize
    share, own = -(-trained // setup.shards), -(-every // setup.shards)
    if setup.offloaded:
        share = own = 0
    noised = dry.corrupted(setup.rows)
    parts = (noised.inputs, noised.targets, noised.in_loss, noised.weights, noised.places)
    return Memory(
        weights=own * width,
        optimizer=2 * _FLOAT32 * share,
        average=_FLOAT32 * share if dry.recipe.train.ema_decay > 0 else 0,
        gradients=width * share if several else step.gradients,
        gathered=_gathered(network, setup) if several else 0,
        sums=_sums(network, setup) if several else 0,
        casts=step.casts,
        activations=step.activations,
        working=step.peak - step.gradients - step.casts - step.activations,
        batch=sum(part.nbytes for part in parts if part is not None),
    )


def _numel(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def units(network: nn.Module) -> tuple[int, list[int]]:
    """Parameters outside of the blocks, and those of each block."""
    blocks = [_numel(block.parameters()) for block in blocks_of(network)]
    return _numel(network.parameters()) - sum(blocks), blocks


def _gathered(network: nn.Module, setup: Setup) -> int:
    rest, blocks = units(network)
    largest = max(blocks, default=0)
    on_its_way = largest if setup.shards > 1 else 0  # one GPU has nothing to wait for
    held = min(2, len(blocks)) * largest if setup.reshard else sum(blocks)
    return (rest + held + on_its_way) * setup.used.itemsize


def _sums(network: nn.Module, setup: Setup) -> int:
    rest, blocks = units(network)
    largest = max(blocks, default=0)
    whole = rest + (sum(blocks) if setup.accumulation > 1 else largest)
    return whole * setup.used.itemsize + 2 * largest * setup.reduced.itemsize
