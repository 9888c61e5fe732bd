from __future__ import annotations

import torch

from mdmkit.builtin.evaluators.pairs import Deal, PairDraws, evenly_spaced, shuffled

from .conftest import draws

BLOCKS, DRAWS = 6, 4


def pair_draws(rows: torch.Tensor, seed: int = 0) -> PairDraws:
    order = shuffled(draws, seed, BLOCKS, DRAWS)
    return PairDraws(make=draws, seed=seed, blocks=torch.arange(BLOCKS), order=order, rows=rows)


def test_the_draws_of_a_block_and_all_pairs_are_stratified():
    u = pair_draws(torch.arange(BLOCKS * DRAWS)).strata("time", "jittered").view(BLOCKS, DRAWS)
    assert torch.equal((u * DRAWS).long(), torch.arange(DRAWS).expand(BLOCKS, DRAWS))
    everywhere = (u.flatten() * BLOCKS * DRAWS).long().sort().values
    assert torch.equal(everywhere, torch.arange(BLOCKS * DRAWS))


def test_numbers_depend_on_the_pair_and_not_on_its_batch():
    rows = torch.arange(BLOCKS * DRAWS)
    whole = pair_draws(rows)
    for part in rows.split(5):
        piece = pair_draws(part)
        assert torch.equal(piece.uniform("mask", 3), whole.uniform("mask", 3)[part])
        kind = "jittered"
        assert torch.equal(piece.strata("time", kind), whole.strata("time", kind)[part])


def test_pairs_have_noise_of_their_own_and_groups_share_it():
    noise = pair_draws(torch.arange(BLOCKS * DRAWS)).uniform("mask", 8)
    assert len(noise.unique(dim=0)) == BLOCKS * DRAWS
    shared = pair_draws(torch.arange(BLOCKS * DRAWS)).uniform("mask", 8, group=2)
    assert torch.equal(shared[0::2], shared[1::2])
    assert len(shared.unique(dim=0)) == BLOCKS * DRAWS // 2


def test_each_block_meets_every_stratum_in_the_long_run():
    firsts = torch.stack(
        [pair_draws(torch.arange(0, 24, 4), seed).strata("time", "jittered") for seed in range(400)]
    )  # draw 0 of each block, in the first quarter of (0, 1)
    assert (firsts.mean(0) - 1 / 8).abs().max() < 4 * (0.25 / 12**0.5) / 20


def test_evenly_spaced_blocks():
    assert evenly_spaced(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly_spaced(3, 0).tolist() == [0, 1, 2]
    assert evenly_spaced(3, 99).tolist() == [0, 1, 2]
    assert evenly_spaced(0, 5).tolist() == []


def test_every_pair_is_dealt_once_in_equal_batches():
    for pairs, size, world in ((7, 3, 1), (10, 4, 3), (2, 8, 4), (9, 3, 3)):
        seen = []
        deals = [Deal(pairs=pairs, batch_size=size, rank=r, world_size=world) for r in range(world)]
        for deal in deals:
            assert len(deal) == len(deals[0])
            batches = [deal.batch(index) for index in range(len(deal))]
            assert len({len(pair) for pair, _ in batches}) == 1
            assert all(len(pair) <= size for pair, _ in batches)
            seen += [p for pair, weight in batches for p in pair[weight > 0].tolist()]
        assert sorted(seen) == list(range(pairs))
