"""The contract of an objective's nll: whose tokens, from what, and how it adds up to the bound."""

from __future__ import annotations

import itertools
import math

import torch
from attrs import evolve
from torch import Tensor

from mdmkit.draws import StepDraws
from mdmkit.protocols import Objective
from mdmkit.testing.bounds import TINY_LENGTH, TINY_VOCAB
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import HashDenoiser
from mdmkit.testing.objective_subject import LENGTH, ROWS, Subject
from mdmkit.values import Batch

_SIGMAS = 5.0
_DRAWS = 4000
_SAME = 1e-5
"""Nats by which a cross-entropy may move without a reason."""


def check_nll(subject: Subject) -> None:
    """Shape, zeros, proper probabilities, and that what is to be predicted is not seen."""
    contract, batch = subject.contract, subject.rows(torch.arange(ROWS))
    source = torch.Generator().manual_seed(2)
    mask = (torch.rand(ROWS, LENGTH, generator=source) < 0.5) & batch.scored()
    found = _nll(subject, batch, mask)
    contract.require(
        found.shape == mask.shape and found.dtype == torch.float64,
        "nll is [B, L] float64",
        f"{list(found.shape)} {found.dtype}",
    )
    contract.require(
        (found[~mask] == 0).all(),
        "nll is 0 where nothing is masked",
        lambda: f"up to {float(found[~mask].abs().max()):.6g}",
    )
    allowed = [i for i in range(subject.vocab.size) if i != subject.vocab.mask_id]
    moves = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)  # [i, j]: the token at i that of j
    total = torch.zeros(ROWS, LENGTH, dtype=torch.float64)
    for i, token in itertools.product(range(LENGTH), allowed):
        tokens = batch.tokens.clone()
        tokens[:, i] = token
        after = _nll(subject, evolve(batch, tokens=tokens), mask)
        total[:, i] += (-after[:, i]).exp()
        moves[i] |= ((after - found).abs()[mask[:, i]] > _SAME).any(0)
    _check_moves(subject, moves.fill_diagonal_(False))
    off = (total - 1).abs()[mask]
    contract.require(
        (off < 1e-4).all(),
        "exp(−nll) of a token, over all ids there are, sums to 1",
        lambda: f"off by up to {float(off.max()):.6g}",
    )


def _check_moves(subject: Subject, moves: Tensor) -> None:
    """Whether masked tokens move the cross-entropies of others that may see them.

    Where the bound is exact there is an order, and a token may be seen by those after it: from the
    left for next-token prediction, else in any order, so that no token moves itself through others.
    """
    if subject.prediction == "next_token":
        wrong = moves.tril()
    elif subject.objective.exact:
        reached = moves.double()
        for _ in range(LENGTH):
            reached = ((reached + reached @ moves.double()) > 0).double()
        wrong = reached.bool() & torch.eye(LENGTH, dtype=torch.bool)
    else:
        wrong = moves
    subject.contract.require(
        not wrong.any(),
        "nll does not look at masked tokens (exact: at later ones)",
        f"changing the masked token {int(wrong.any(-1).long().argmax())} changes others",
    )


def _nll(subject: Subject, batch: Batch, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return subject.objective.nll(HashDenoiser(subject.vocab.size), batch, mask)


def check_nll_adds_up(contract: Contract, objective: Objective) -> None:
    """Where exact, its sum is the bound; else Σ_k of its mean over all masks of k tokens is.

    Args:
        contract: names the component.
        objective: built for the tiny vocabulary and length.
    """
    text = torch.tensor([2, 0, 1])
    masks = torch.tensor(list(itertools.product([False, True], repeat=TINY_LENGTH)))
    denoiser = HashDenoiser(TINY_VOCAB.size, seed=1)
    copies = 1 if objective.exact else _DRAWS
    every = torch.arange(copies)
    with torch.no_grad():
        of_masks = Batch(tokens=text.expand(len(masks), -1), rows=torch.arange(len(masks)))
        sums = objective.nll(denoiser, of_masks, masks).sum(-1)
        draws = StepDraws(seed=9, step=0, rows=every, global_rows=copies)
        batch = Batch(tokens=text.expand(copies, -1), rows=every)
        bound = objective.bound(denoiser, batch, draws).nats
    counts = masks.sum(-1)
    if objective.exact:
        expected, error = float(sums[counts == TINY_LENGTH][0]), 0.0
    else:
        means = [float(sums[counts == k].mean()) / k for k in range(1, TINY_LENGTH + 1)]
        expected, error = sum(means), float(bound.std()) / math.sqrt(copies)
    found = float(bound.mean())
    contract.require(
        abs(found - expected) <= _SIGMAS * error + 1e-5 * abs(expected),
        "nll adds up to the bound (exact: its sum; else Σ_k of its mean at k masked tokens)",
        f"{expected:.5f} nats by nll, {found:.5f} ± {error:.5f} by bound",
    )
