from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mdmkit.data.order import block_rows
from mdmkit.errors import RecipeError
from mdmkit.recipe import Train
from mdmkit.training.batches import MicroBatches, split_batch
from mdmkit.training.distributed import World
from mdmkit.values import Batch


class Numbered:
    """Blocks that hold their own number."""

    provenance: Mapping[str, Any] = {}

    def __len__(self) -> int:
        return 10

    def batch(self, rows: Tensor) -> Batch:
        return Batch(tokens=rows[:, None].expand(-1, 4), rows=rows)


def micro_batches(rank: int, world: int, accumulation: int, group: int = 1) -> MicroBatches:
    return MicroBatches(
        blocks=Numbered(), seed=3, rows=8, group=group, rank=rank, world_size=world,
        accumulation=accumulation,
    )  # fmt: skip


def test_rows_are_strided_over_ranks_and_accumulation() -> None:
    found = [micro_batches(r, 2, 2).rows_of(a).tolist() for a in range(2) for r in range(2)]
    assert found == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_every_layout_sees_the_same_rows_with_the_same_numbers() -> None:
    for step in (0, 1, 5):
        whole, draws = next(micro_batches(0, 1, 1).at(step))
        noise, strata = draws.uniform("mask", 4), draws.strata("time", "jittered")
        assert whole.tokens[:, 0].tolist() == block_rows(3, 10, 8 * step, 8 * step + 8).tolist()
        for rank in range(2):
            for part, own in micro_batches(rank, 2, 2).at(step):
                assert torch.equal(part.tokens, whole.tokens[own.rows])
                assert torch.equal(own.uniform("mask", 4), noise[own.rows])
                assert torch.equal(own.strata("time", "jittered"), strata[own.rows])


def test_stratified_times_are_balanced_over_micro_batches() -> None:
    means = [
        draws.strata("time", "jittered").mean().item()
        for rank in range(2)
        for _, draws in micro_batches(rank, 2, 2).at(0)
    ]
    assert all(0.2 < mean < 0.8 for mean in means)  # contiguous slices: 0.125 to 0.875


def test_twins_share_a_block() -> None:
    batch, _ = next(micro_batches(0, 1, 1, group=2).at(1))
    tokens = batch.tokens[:, 0]
    assert torch.equal(tokens[::2], tokens[1::2])
    assert tokens[::2].tolist() == block_rows(3, 10, 4, 8).tolist()


@pytest.mark.parametrize(
    ("train", "group", "ranks", "said"),
    [
        (Train(steps=1, global_batch_size=9), 1, 2, "9 rows over 2 processes"),
        (Train(steps=1, global_batch_size=9), 2, 1, "group of 2 rows"),
        (Train(steps=1, global_batch_size=8, micro_batch_size=3), 1, 2, "does not divide the 4"),
    ],
)
def test_what_does_not_come_out_even_is_refused(
    train: Train, group: int, ranks: int, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        split_batch(train, group, World(size=ranks, device=torch.device("cpu")))


def test_accumulation_follows_from_the_micro_batch() -> None:
    world = World(size=2, device=torch.device("cpu"))
    assert split_batch(Train(steps=1, global_batch_size=8, micro_batch_size=2), 1, world) == 2
    assert split_batch(Train(steps=1, global_batch_size=8), 1, world) == 1
