"""Which rows a micro-batch has, of which blocks, with which random numbers.

Row i of the global batch belongs to micro-batch i mod M, counted over ranks and accumulation
steps. Contiguous slices would give one rank all the nearly full masks of a stratified t; strided
rows keep the number of masked tokens of a micro-batch almost constant.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.data.order import block_rows
from mdmkit.draws import StepDraws
from mdmkit.errors import RecipeError
from mdmkit.protocols import BlockSource, Draws
from mdmkit.recipe import Train
from mdmkit.training.distributed import World
from mdmkit.values import Batch


@frozen(kw_only=True)
class MicroBatches:
    """The micro-batches of this rank, as a function of the step.

    Attributes:
        blocks: the training data.
        seed: of the run.
        rows: G, rows of the global batch.
        group: consecutive rows that share one block.
        rank, world_size: this process among all.
        accumulation: micro-batches a rank has in a step.
    """

    blocks: BlockSource
    seed: int
    rows: int
    group: int
    rank: int
    world_size: int
    accumulation: int

    def at(self, step: int) -> Iterator[tuple[Batch, Draws]]:
        """The micro-batches of `step`, each with its random numbers."""
        blocks = self._blocks_of(step)
        for index in range(self.accumulation):
            yield self._part(step, self.rows_of(index), blocks)

    def of_rows(self, step: int, rows: Tensor) -> tuple[Batch, Draws]:
        """The rows ``rows [B]`` of the global batch of `step`, with their random numbers."""
        return self._part(step, rows, self._blocks_of(step))

    def _blocks_of(self, step: int) -> Tensor:
        """The blocks of the sequences of a step, ``[G/group]`` int64."""
        sequences = self.rows // self.group
        first = step * sequences
        return block_rows(self.seed, len(self.blocks), first, first + sequences)

    def _part(self, step: int, rows: Tensor, blocks: Tensor) -> tuple[Batch, Draws]:
        draws = StepDraws(seed=self.seed, step=step, rows=rows, global_rows=self.rows)
        return self.blocks.batch(blocks[rows // self.group]), draws

    def rows_of(self, index: int) -> Tensor:
        """The rows of the global batch in this rank's micro-batch `index`: ``[B]`` int64."""
        count = self.world_size * self.accumulation
        return torch.arange(index * self.world_size + self.rank, self.rows, count)


def split_batch(train: Train, group: int, world: World) -> int:
    """How many micro-batches a rank has in a step.

    Raises:
        RecipeError: where the global batch does not divide evenly.
    """
    rows = train.global_batch_size
    if rows % group:
        raise RecipeError(
            f"[train] global_batch_size: {rows} is not a multiple of the mask pattern's group of "
            f"{group} rows; choose a multiple"
        )
    if rows % world.size:
        raise RecipeError(
            f"[train] global_batch_size: {rows} rows over {world.size} processes do not come out "
            "even; choose a multiple"
        )
    micro = train.micro_batch_size or rows // world.size
    if (rows // world.size) % micro:
        raise RecipeError(
            f"[train] micro_batch_size: {micro} does not divide the {rows // world.size} rows of "
            f"each of {world.size} processes"
        )
    return rows // world.size // micro
