"""The contract of an objective's bound: unbiased, and no more probability than there is."""

from __future__ import annotations

import itertools
import math

import torch

from mdmkit.draws import StepDraws
from mdmkit.protocols import Objective
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import HashDenoiser, UniformDenoiser
from mdmkit.testing.objective_subject import ROWS, Subject
from mdmkit.values import Batch, Bound, Vocabulary

_SIGMAS = 5.0
TINY_VOCAB = Vocabulary(size=4, mask_id=3)
TINY_LENGTH = 3


def check_bound(subject: Subject) -> None:
    """Shapes, and a network that knows nothing: exactly n·ln(V − 1) nats on average."""
    contract, every = subject.contract, torch.arange(ROWS)
    batch = subject.rows(every)
    scored = batch.scored().sum(-1)
    draws = 400
    denoiser = UniformDenoiser(subject.vocab.size)
    nats = torch.zeros(draws, ROWS, dtype=torch.float64)
    with torch.no_grad():
        for step in range(draws):
            bound = subject.objective.bound(denoiser, batch, subject.draws(every, step))
            contract.require(
                bound.nats.shape == (ROWS,) and bound.nats.dtype == torch.float64,
                "Bound.nats is [B] float64",
                f"{list(bound.nats.shape)} {bound.nats.dtype}",
            )
            contract.require(
                torch.equal(bound.tokens, scored), "Bound.tokens counts the scored tokens", "no"
            )
            _check_masked(contract, bound)
            nats[step] = bound.nats
            if subject.objective.exact:
                break
    nats = nats[: step + 1].sum(-1)
    expected = float(scored.sum()) * math.log(subject.vocab.size - 1)
    error = float(nats.std() / len(nats) ** 0.5) if len(nats) > 1 else 0.0
    found = float(nats.mean())
    contract.require(
        abs(found - expected) <= _SIGMAS * error + 1e-5 * expected,
        "a network that knows nothing has a bound of n·ln(V − 1) nats",
        f"{found:.4f} ± {error:.4f} for the batch, expected {expected:.4f}",
    )


def _check_masked(contract: Contract, bound: Bound) -> None:
    """How many tokens were masked, where the estimate says so: not more than there are."""
    masked = bound.masked
    if masked is None:
        return
    contract.require(
        masked.shape == bound.tokens.shape and masked.dtype == torch.int64,
        "Bound.masked is [B] int64 or None",
        lambda: f"{list(masked.shape)} {masked.dtype}",
    )
    contract.require(
        ((masked >= 0) & (masked <= bound.tokens)).all(),
        "Bound.masked is from 0 to Bound.tokens",
        lambda: f"{masked.tolist()} masked of {bound.tokens.tolist()}",
    )


def check_total_probability(contract: Contract, objective: Objective) -> None:
    """exp(−bound), summed over every text there is, is 1 where exact, else at most 1."""
    ids = [i for i in range(TINY_VOCAB.size) if i != TINY_VOCAB.mask_id]
    texts = torch.tensor(list(itertools.product(ids, repeat=TINY_LENGTH)))
    copies = 1 if objective.exact else 500
    denoiser = HashDenoiser(TINY_VOCAB.size, seed=1)
    total, variance = 0.0, 0.0
    with torch.no_grad():
        for number, text in enumerate(texts):
            every = torch.arange(copies)
            batch = Batch(tokens=text.expand(copies, -1), rows=every)
            draws = StepDraws(seed=7, step=number, rows=every, global_rows=copies)
            nats = objective.bound(denoiser, batch, draws).nats
            mean = float(nats.mean())
            error = float(nats.std() / copies**0.5) if copies > 1 else 0.0
            total += math.exp(-mean)
            variance += (math.exp(-mean) * error) ** 2
    slack = _SIGMAS * variance**0.5 + 1e-4
    clause = "the bound is −log of a probability: exp(−nats) over all texts sums to "
    found = f"a sum of {total:.5f} (tolerance {slack:.5f})"
    if objective.exact:
        contract.require(abs(total - 1) <= slack, clause + "1", found)
    else:
        contract.require(total <= 1 + slack, clause + "at most 1", found)
