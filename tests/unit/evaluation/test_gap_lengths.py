"""The length of a gap, on a network whose distribution is known exactly."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from mdmkit.evaluation.infilling.frames import Frame
from mdmkit.evaluation.infilling.gap_lengths import LengthChooser
from mdmkit.evaluation.infilling.templates import Gap
from mdmkit.network import InferenceCall, Root

from .conftest import MASK

CPU = torch.device("cpu")
TURNS = torch.tensor([[0.05, 0.9, 0.05], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]).double()
"""A Markov chain that goes around: 0, 1, 2, 0, …"""


class Around(nn.Module):
    """Says exactly what is under each mask, by trying every row of the chain."""

    blocks = ()

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Tensor] = []

    def forward(self, tokens: Tensor, *, t=None, attention=None) -> Tensor:
        self.calls.append(tokens)
        rows = torch.tensor(list(product(range(3), repeat=tokens.shape[1])))  # [S, L]
        p = torch.full((len(rows),), 1 / 3).double()
        for i in range(tokens.shape[1] - 1):
            p = p * TURNS[rows[:, i], rows[:, i + 1]]
        fits = ((tokens[:, None] == rows) | (tokens[:, None] == MASK)).all(-1)  # [B, S]
        hot = nn.functional.one_hot(rows, MASK + 1).double()  # [S, L, V]
        return torch.einsum("bs,slv->blv", fits * p, hot).clamp(min=1e-300).log()

    def unembed(self, h: Tensor) -> Tensor:
        return h


def exact(lengths: tuple[int, ...]) -> float:
    """−log p of 0, a gap, 0, a gap, 0, with the gaps summed over."""
    p = 1 / 3 * torch.ones(()).double()
    for length in lengths:
        p = p * torch.linalg.matrix_power(TURNS, length + 1)[0, 0]
    return -p.log().item()


@pytest.fixture
def network() -> Around:
    return Around()


@pytest.fixture
def chooser(network, make_context) -> LengthChooser:
    context = make_context(torch.zeros(1, 4, dtype=torch.int64))
    return LengthChooser(
        call=InferenceCall(Root(network), CPU, "fp32"),
        objective=context.objective,
        mask_id=MASK,
        device=CPU,
        draws=400,
        seed=1,
        batch_size=64,
    )


def frame(*gaps: Gap) -> Frame:
    pieces = [(0,)]
    for gap in gaps:
        pieces += [gap, (0,)]
    return Frame(pieces=tuple(pieces), where="template")


def test_the_score_is_the_likelihood_of_what_is_given_with_the_gaps_summed_over(chooser, network):
    found = chooser.candidates(frame(Gap(shortest=1, longest=3), Gap(shortest=2, longest=2)))
    assert [one.lengths for one in found] == [(1, 2), (2, 2), (3, 2)]
    for one in found:
        assert one.nelbo == pytest.approx(exact(one.lengths), abs=4 * one.nelbo_stderr)
        assert one.nelbo_stderr < 0.1
        difference = exact(one.lengths) - exact((2, 2))
        assert one.behind == pytest.approx(difference, abs=4 * one.behind_stderr + 1e-9)
    assert [one.chosen for one in found] == [False, True, False]
    assert found[1].behind == found[1].behind_stderr == 0
    for tokens in network.calls:
        gap = tokens.shape[1] - 5  # the first one's length
        assert (tokens[:, 1 : 1 + gap] == MASK).all()
        assert (tokens[:, 2 + gap : 4 + gap] == MASK).all()


def test_all_candidates_meet_the_same_masks_whatever_the_batch(chooser, network):
    chooser.candidates(frame(Gap(shortest=1, longest=2)))
    short = torch.cat([t for t in network.calls if t.shape[1] == 3])
    long = torch.cat([t for t in network.calls if t.shape[1] == 4])
    assert torch.equal(short[:, [0, 2]], long[:, [0, 3]])
    assert len(short) == 400
    again = evolve(chooser, batch_size=7).candidates(frame(Gap(shortest=1, longest=1)))
    (first, _) = chooser.candidates(frame(Gap(shortest=1, longest=2)))
    assert again[0].nelbo == pytest.approx(first.nelbo, rel=1e-6)
    network.calls.clear()
    evolve(chooser, seed=2).candidates(frame(Gap(shortest=1, longest=1)))
    assert not torch.equal(torch.cat(network.calls), short)


def test_lengths_that_the_denoiser_cannot_take_are_left_out(chooser):
    found = evolve(chooser, multiple=2).candidates(frame(Gap(shortest=1, longest=4)))
    assert [one.lengths for one in found] == [(2,), (4,)]
    assert evolve(chooser, multiple=9).candidates(frame(Gap(shortest=1, longest=4))) == ()
