"""What ``[parallel]`` does to a network, in the one order that works.

A block is first made to keep less, then compiled with that in view, and what has come of it is
sharded: FSDP's hooks run around the compiled code and not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from mdmkit.errors import RecipeError
from mdmkit.training.activation import checkpoint_block
from mdmkit.training.sharding import shard

if TYPE_CHECKING:
    from mdmkit.network import Root
    from mdmkit.recipe import Parallel
    from mdmkit.training.distributed import World


def prepare(root: Root, parallel: Parallel, world: World) -> None:
    """Checkpoint, compile and shard the denoiser in `root`, in place; no parameter is renamed.

    Raises:
        RecipeError: where the denoiser lists no blocks, or the processes do not fit.
    """
    blocks = blocks_of(root.denoiser)
    wanted = parallel.activation_checkpointing != "none" or parallel.compile
    if wanted and not blocks:
        raise RecipeError(
            "[parallel] activation_checkpointing and compile: this denoiser lists no blocks; leave "
            "them out"
        )
    for block in blocks:
        checkpoint_block(block, parallel.activation_checkpointing)
    if parallel.compile:
        compile_blocks(blocks)
    shard(root, blocks, parallel, world)


def compile_blocks(blocks: Sequence[nn.Module]) -> None:
    """Compile what each block does, in place."""
    for block in blocks:
        # The method and not the module: hooks stay outside, and blocks of one class share code.
        block.forward = torch.compile(block.forward)


def blocks_of(denoiser: nn.Module) -> list[nn.Module]:
    """The denoiser's ``blocks``, each once."""
    return list(dict.fromkeys(getattr(denoiser, "blocks", ())))
