from __future__ import annotations

import pytest
import torch

from mdmkit.draws import RowStreams, StepDraws, derive_seed, generator

G = 12


def draws(rows: torch.Tensor | None = None, *, seed: int = 1, step: int = 5) -> StepDraws:
    rows = torch.arange(G) if rows is None else rows
    return StepDraws(seed=seed, step=step, rows=rows, global_rows=G)


def test_seeds_are_a_function_of_their_parts_and_differ_with_each() -> None:
    assert derive_seed(1, 2, "time") == derive_seed(1, 2, "time")
    parts = [(1, 2, "time"), (2, 1, "time"), (1, 2, "mask"), (12, "time"), ("1", 2, "time")]
    parts += [(1, "2", "time"), (1, 2), (1, 2, "time", "")]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
    assert all(0 <= derive_seed(*p) < 2**63 for p in parts)


def test_a_seed_never_changes_between_versions() -> None:
    # blake2b of "int:1\x1fstr:a" in eight bytes, less one bit: what resumed runs rely on
    import hashlib

    digest = hashlib.blake2b(b"int:1\x1fstr:a", digest_size=8).digest()
    assert derive_seed(1, "a") == int.from_bytes(digest, "big") // 2


def test_generators_of_equal_parts_agree() -> None:
    one, two = (torch.rand(5, generator=generator(3, "x")) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, torch.rand(5, generator=generator(3, "y")))


def test_draws_are_a_function_of_seed_step_and_stream() -> None:
    noise = draws().uniform("mask", 4)
    torch.manual_seed(0)
    assert torch.equal(noise, draws().uniform("mask", 4))
    assert not torch.equal(noise, draws(seed=2).uniform("mask", 4))
    assert not torch.equal(noise, draws(step=6).uniform("mask", 4))
    assert not torch.equal(noise, draws().uniform("mask2", 4))


def test_draws_do_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    draws().uniform("mask", 4)
    draws().strata("time", "jittered")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("micro_batches", [2, 3, 5])
def test_a_row_has_its_numbers_in_whatever_micro_batch(micro_batches: int, group: int) -> None:
    whole = draws()
    for m in range(micro_batches):
        rows = torch.arange(m, G, micro_batches)
        part = draws(rows)
        assert torch.equal(
            part.uniform("mask", 4, group=group), whole.uniform("mask", 4, group=group)[rows]
        )
        assert torch.equal(
            part.strata("time", "mirrored", group=group),
            whole.strata("time", "mirrored", group=group)[rows],
        )


def test_rows_of_a_group_share_their_numbers() -> None:
    noise, times = draws().uniform("mask", 4, group=3), draws().strata("t", "jittered", group=3)
    for first in range(0, G, 3):
        assert (noise[first : first + 3] == noise[first]).all()
        assert (times[first : first + 3] == times[first]).all()
    assert len(noise[:, 0].unique()) == len(times.unique()) == G // 3


def test_a_last_group_may_be_short() -> None:
    odd = StepDraws(seed=1, step=0, rows=torch.arange(7), global_rows=7)
    assert odd.uniform("mask", 2, group=2).shape == (7, 2)
    assert len(odd.strata("t", "jittered", group=2).unique()) == 4


def test_times_are_stratified_over_the_groups_of_the_global_batch() -> None:
    every_second = draws(torch.arange(0, G, 2))
    assert ((every_second.strata("t", "jittered") * G).floor() == every_second.rows).all()
    groups = draws().strata("t", "jittered", group=2)[::2]
    assert ((groups * G // 2).floor() == torch.arange(G // 2)).all()


def test_types_and_ranges() -> None:
    noise, times = draws().uniform("mask", 1000), draws().strata("t", "iid")
    assert noise.dtype == torch.float32
    assert times.dtype == torch.float64
    assert ((noise >= 0) & (noise < 1)).all()
    assert ((times > 0) & (times < 1)).all()
    assert draws().uniform("row").shape == (G,)


def test_row_streams_do_not_depend_on_the_batch() -> None:
    whole, part = RowStreams(1, range(5), 8), RowStreams(1, range(2, 4), 8)
    for _ in range(3):
        ours, theirs = whole(), part()
        assert torch.equal(ours[2:4], theirs)
        assert ours.dtype == torch.float64
        assert len(ours.unique()) == ours.numel()
