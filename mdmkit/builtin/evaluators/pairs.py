"""Work on (block, draw) pairs: their random numbers, and how they are dealt out to ranks.

N blocks, n draws of each, G = N·n pairs. Pair p is draw p mod n of the block at place p div n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.errors import DataError
from mdmkit.protocols import BlockSource, Draws, EvaluationContext, Split, Stratification

MakeDraws = Callable[[int, int, Tensor, int], Draws]


@frozen(kw_only=True, eq=False)
class PairDraws:
    """The random numbers of some pairs, as `mdmkit.protocols.Draws`.

    They are a function of the seed, the block's number and the draw's number: every network that
    is measured with one seed meets the same masks (common random numbers), in whatever batches
    and on however many ranks.

    Attributes:
        make: ``make(seed, step, rows, global_rows)``, the source of the numbers.
        seed: of the evaluation.
        blocks: ``[N]`` int64, the numbers of the blocks in their split.
        order: ``[n, N]`` int64, for each draw a permutation of the blocks; see `shuffled`.
        rows: ``[B]`` int64, the pairs that are wanted.
    """

    make: MakeDraws
    seed: int
    blocks: Tensor
    order: Tensor
    rows: Tensor
    step: int = 0

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        """``[B, *shape]`` float32 on [0, 1); each pair has a generator of its own.

        The noise of all pairs never exists at once. In a group are consecutive draws of a block.
        """
        one = self.make(self.seed, self.step, torch.zeros(1, dtype=torch.int64), 1)
        blocks, draws = self.blocks[self.place].tolist(), (self.draw // group).tolist()
        return torch.cat(
            [
                one.uniform(f"{stream}/block {block}/draw {draw}", *shape)
                for block, draw in zip(blocks, draws, strict=True)
            ]
        )

    def strata(self, stream: str, kind: Stratification, *, group: int = 1) -> Tensor:
        """``[B]`` float64 in (0, 1), stratified over all pairs and over the draws of each block.

        Draw k of a block lies in the k-th n-th of (0, 1); which of the N strata in there it gets
        is a random permutation, so that each number by itself is uniform in its n-th.
        """
        draw = self.draw // group
        draws, blocks = -(-len(self.order) // group), len(self.blocks)
        index = draw * blocks + self.order[draw, self.place]
        return self.make(self.seed, self.step, index, draws * blocks).strata(stream, kind)

    def of(self, values: Tensor) -> Tensor:
        """What the pairs have in a table ``[N, n]``: ``[B]``."""
        return values[self.place, self.draw]

    @property
    def place(self) -> Tensor:
        """``[B]`` int64, at which place their blocks stand."""
        return self.rows // len(self.order)

    @property
    def draw(self) -> Tensor:
        """``[B]`` int64, which draw of their blocks they are."""
        return self.rows % len(self.order)


def shuffled(make: MakeDraws, seed: int, blocks: int, draws: int, step: int = 0) -> Tensor:
    """A random permutation of the blocks for each draw, ``[n, N]`` int64.

    Without it the first blocks would always have the lowest times, and the mean over a split that
    is not in random order would be biased.
    """
    source = make(seed, step, torch.arange(blocks), blocks)
    return torch.stack(
        [source.strata(f"order/draw {draw}", "iid").argsort() for draw in range(draws)]
    )


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """`wanted` of the numbers 0..total − 1, evenly spaced; all of them where wanted is 0."""
    count = min(wanted, total) if wanted else total
    return torch.arange(count) * total // max(count, 1)


def blocks_to_measure(source: BlockSource, wanted: int, *, evaluator: str, split: Split) -> Tensor:
    """The blocks that an evaluator looks at, ``[N]`` int64 and evenly spaced.

    Args:
        source: the split.
        wanted: how many; 0: all.
        evaluator, split: for the message.

    Raises:
        DataError: where there are fewer than the two that an error needs.
    """
    blocks = evenly_spaced(len(source), wanted)
    if len(blocks) < 2:
        raise DataError(
            f"{evaluator}: {len(blocks)} of the {len(source)} blocks of split {split!r} are to be "
            "measured; expected at least 2, for there is no standard error of one (more text, a "
            "shorter data.length, or another number of blocks)"
        )
    return blocks


@frozen(kw_only=True)
class Deal:
    """Who does which pairs when: batches of one size, as many on every rank.

    Attributes:
        pairs: G, how many there are.
        batch_size: rows of a batch at most.
        rank, world_size: this process among all.
    """

    pairs: int
    batch_size: int
    rank: int
    world_size: int

    @classmethod
    def of(cls, pairs: int, context: EvaluationContext) -> Self:
        """So many pairs among the ranks of an evaluation."""
        return cls(
            pairs=pairs,
            batch_size=context.batch_size,
            rank=context.rank,
            world_size=context.world_size,
        )

    def __len__(self) -> int:
        """Batches a rank."""
        return -(-self._share // self.batch_size)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """The pairs of batch `index` of this rank, and their weights.

        Returns:
            ``[B]`` int64 and ``[B]`` float64; a weight is 0 where pair 0 fills up the batch.
        """
        size = -(-self._share // len(self))  # even batches: the last is padded by few rows
        mine = torch.arange(index * size, (index + 1) * size)
        pair = mine * self.world_size + self.rank
        inside = (mine < self._share) & (pair < self.pairs)
        return torch.where(inside, pair, 0), inside.double()

    @property
    def _share(self) -> int:
        return -(-self.pairs // self.world_size)
