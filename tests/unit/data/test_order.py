from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mdmkit.data.order import block_rows


def epoch(seed: int, blocks: int, number: int) -> list[int]:
    return block_rows(seed, blocks, number * blocks, (number + 1) * blocks).tolist()


@pytest.mark.parametrize(
    "blocks", [*range(1, 70), 100, 127, 128, 129, 1000, 4095, 4096, 4097, 100_003]
)
def test_an_epoch_has_every_block_once(blocks: int) -> None:
    for number in (0, 1, 7):
        assert sorted(epoch(5, blocks, number)) == list(range(blocks))


def test_a_function_of_position_alone() -> None:
    whole = block_rows(3, 1000, 0, 20_000)
    assert whole.dtype == torch.int64
    pieces = [block_rows(3, 1000, start, start + 13) for start in range(0, 19_994, 13)]
    assert torch.equal(torch.cat(pieces), whole[: 1538 * 13])
    assert block_rows(3, 1000, 77, 77).shape == (0,)


def test_epochs_and_seeds_differ() -> None:
    first, second, other = epoch(1, 1000, 0), epoch(1, 1000, 1), epoch(2, 1000, 0)
    assert first != list(range(1000))
    for one, two in ((first, second), (first, other), (second, other)):
        assert sum(a == b for a, b in zip(one, two, strict=True)) < 12  # 1 expected, Poisson


def test_small_permutations_are_equally_likely() -> None:
    epochs = block_rows(9, 4, 0, 4 * 4800).view(4800, 4).tolist()
    counts = Counter(map(tuple, epochs))
    expected = 200.0
    assert len(counts) == 24
    chi_squared = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi_squared < 60  # 23 degrees of freedom: a tail of 4e-5


def test_positions_and_blocks_are_uncorrelated() -> None:
    count = 20_000
    rows = block_rows(4, count, 0, count).numpy().astype(np.float64)
    places = np.arange(count)
    assert abs(np.corrcoef(places, rows)[0, 1]) < 5 / count**0.5
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 5 / count**0.5
    table, _, _ = np.histogram2d(places, rows, bins=10)
    assert ((table - 200) ** 2 / 200).sum() < 150  # 81 degrees of freedom


def test_billions_of_blocks_take_no_memory() -> None:
    blocks = 7_000_000_019
    rows = block_rows(0, blocks, 3 * blocks - 500, 3 * blocks + 500)
    assert rows.shape == (1000,)
    assert 0 <= int(rows.min()) < int(rows.max()) < blocks
    assert rows[:500].unique().numel() == rows[500:].unique().numel() == 500
    assert 0.4 < rows.double().mean() / blocks < 0.6
    far = block_rows(2**70, blocks, 2**62, 2**62 + 10)
    assert far.unique().numel() == 10


@pytest.mark.parametrize(("blocks", "start", "stop"), [(0, 0, 1), (5, -1, 2), (5, 3, 2)])
def test_what_is_no_range_is_refused(blocks: int, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="no rows"):
        block_rows(0, blocks, start, stop)
