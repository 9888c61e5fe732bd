"""The contract of objectives: tasks without leaks, losses that are sums, bounds that hold."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from attrs import evolve
from torch import Tensor

from mdmkit.protocols import ObjectiveContext, ObjectiveOptions, Prediction
from mdmkit.testing.bounds import TINY_LENGTH, TINY_VOCAB, check_bound, check_total_probability
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import (
    GlobalGenerator,
    HashDenoiser,
    cross_entropies,
    objective_context,
    random_batch,
)
from mdmkit.testing.networks import FEATURES
from mdmkit.testing.nll import check_nll, check_nll_adds_up
from mdmkit.testing.objective_subject import LENGTH, ROWS, Subject
from mdmkit.values import MixedNoised, Noised


def check_objective(
    options: ObjectiveOptions | Any, *, context: ObjectiveContext | None = None
) -> None:
    """Check ``corrupt``, ``loss``, ``bound`` and ``nll`` on a small random network.

    Args:
        options: the objective's options.
        context: what it is built from; standard training if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("objective", options)
    context = context or objective_context()
    known = isinstance(options.needs, frozenset) and options.needs <= FEATURES
    contract.require(known, f"needs is a frozenset out of {sorted(FEATURES)}", repr(options.needs))
    kinds = get_args(Prediction)
    contract.require(
        options.prediction in kinds, f"prediction is of {kinds}", repr(options.prediction)
    )
    objective = options.build(context)
    contract.require(isinstance(objective.exact, bool), "exact is a bool", repr(objective.exact))
    whole = isinstance(objective.group, int) and objective.group >= 1
    contract.require(whole, "group is a whole number >= 1", repr(objective.group))
    subject = Subject(
        contract=contract,
        objective=objective,
        prediction=options.prediction,
        vocab=context.vocab,
        batch=random_batch(ROWS, LENGTH, context.vocab),
    )
    for step in (0, 3):
        _check_noised(subject, subject.corrupt(torch.arange(ROWS), step))
    _check_function(subject)
    _check_micro_batches(subject)
    _check_no_leak(subject)
    _check_loss(subject)
    check_bound(subject)
    tiny = evolve(context, vocab=TINY_VOCAB, length=TINY_LENGTH)
    check_total_probability(contract, options.build(tiny))
    check_nll(subject)
    check_nll_adds_up(contract, options.build(tiny))


def _check_noised(subject: Subject, noised: Noised) -> None:
    contract, where = subject.contract, noised.attention.positions
    contract.require(
        noised.inputs.shape == (ROWS, LENGTH) or where is not None,
        "Noised.inputs is [B, L]; with attention.positions it may be wider",
        lambda: f"{list(noised.inputs.shape)}, L = {LENGTH}",
    )
    shape = (ROWS, noised.inputs.shape[-1])
    contract.require(
        where is None or (where.shape == shape and bool(((where >= 0) & (where < LENGTH)).all())),
        "attention.positions is [B, S], of the L positions of the text",
        lambda: repr(where),
    )
    for name, dtype in _NOISED.items():
        value = getattr(noised, name)
        contract.require(
            value.shape == shape and value.dtype == dtype,
            f"Noised.{name} is [B, L] (or [B, S]) {dtype}",
            f"{list(value.shape)} {value.dtype}",
        )
    t = noised.t
    contract.require(
        t is None or (t.shape == shape[:1] and t.dtype == torch.float32),
        "Noised.t is [B] float32 or None",
        lambda: repr(t),
    )
    scored = subject.rows(torch.arange(ROWS)).scored()
    scored = scored if where is None else scored.gather(1, where)
    outside = int((noised.in_loss & ~scored).sum())
    contract.require(not outside, "only scored tokens are in the loss", f"{outside} others")
    weights = noised.weights[noised.in_loss]
    contract.require(
        (weights.isfinite() & (weights > 0)).all(),
        "weights in the loss are finite and positive",
        lambda: f"from {float(weights.min()):.6g} to {float(weights.max()):.6g}",
    )
    masks = int((noised.targets[noised.in_loss] == subject.vocab.mask_id).sum())
    contract.require(not masks, "a mask is never a target", f"{masks} are")
    _check_denominator(contract, noised.denominator)


_NOISED = {
    "inputs": torch.int64,
    "targets": torch.int64,
    "in_loss": torch.bool,
    "weights": torch.float32,
}


def _check_denominator(contract: Contract, denominator: Tensor) -> None:
    right = denominator.shape == () and denominator.dtype == torch.float64
    contract.require(
        right and bool(denominator.isfinite()) and float(denominator) >= 0,
        "the denominator is a finite float64 scalar >= 0",
        lambda: repr(denominator),
    )


def _causal(noised: Noised) -> Tensor:
    """The rows that are trained on the next token beside masked ones: ``[B]`` bool."""
    if isinstance(noised, MixedNoised):
        return noised.causal
    return torch.zeros(len(noised.inputs), dtype=torch.bool)


def _equal(one: Noised, two: Noised) -> bool:
    names = (*_NOISED, "t")
    pairs = [(getattr(one, name), getattr(two, name)) for name in names]
    pairs.append((_causal(one), _causal(two)))
    pairs.append((one.attention.positions, two.attention.positions))
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def _check_function(subject: Subject) -> None:
    every = torch.arange(ROWS)
    generator = GlobalGenerator.now()
    tokens = subject.batch.tokens.clone()
    same = _equal(subject.corrupt(every), subject.corrupt(every))
    subject.contract.require(
        same and generator.untouched(),
        "everything random comes from draws",
        "another task for the same draws, or torch's own generator in use",
    )
    subject.contract.require(
        torch.equal(tokens, subject.batch.tokens), "corrupt leaves the batch alone", "changed"
    )


def _check_micro_batches(subject: Subject) -> None:
    """Row i of the global batch in micro-batch i mod M: nothing but the order may change."""
    whole = subject.corrupt(torch.arange(ROWS))
    dealt = [torch.arange(m, ROWS, 3) for m in range(3)]
    parts = [subject.corrupt(rows) for rows in dealt]
    for rows, part in zip(dealt, parts, strict=True):
        expected = evolve(
            whole,
            t=None if whole.t is None else whole.t[rows],
            attention=whole.attention.of_rows(rows),
        )
        expected = evolve(expected, **{name: getattr(whole, name)[rows] for name in _NOISED})
        if isinstance(expected, MixedNoised):
            expected = evolve(expected, causal=expected.causal[rows])
        subject.contract.require(
            _equal(part, expected),
            "a row's task does not depend on its micro-batch",
            f"rows {rows.tolist()} differ from the same rows of the whole batch",
        )
    total = float(sum(part.denominator for part in parts))
    subject.contract.require(
        math.isclose(total, float(whole.denominator), rel_tol=1e-6),
        "the shares of the denominator add up",
        f"{total} over three micro-batches, {float(whole.denominator)} in one",
    )


def _check_no_leak(subject: Subject) -> None:
    """What is to be predicted at a position does not stand in what may be seen there."""
    noised = subject.corrupt(torch.arange(ROWS))
    causal = _causal(noised)
    if subject.prediction == "masked":
        hidden = noised.in_loss & ~causal[:, None]
        shown = int((noised.inputs != subject.vocab.mask_id)[hidden].sum())
        subject.contract.require(
            not shown, "positions in the loss are masked in the input", f"{shown} are not"
        )
    else:
        causal = torch.ones_like(causal)
        subject.contract.require(
            noised.attention.causal,
            "prediction of one token after the other asks for causal attention",
            "it does not",
        )
    tokens = subject.batch.tokens
    for i in range(LENGTH if causal.any() else 0):
        other = tokens.clone()
        other[:, i] = (tokens[:, i] + 1) % (subject.vocab.size - 1)
        changed = evolve(subject, batch=evolve(subject.batch, tokens=other))
        seen = changed.corrupt(torch.arange(ROWS)).inputs
        early = causal[:, None] & _up_to(i, noised)
        subject.contract.require(
            torch.equal(seen[early], noised.inputs[early]),
            "the token to predict at i is not in the input at positions <= i, or up to its query",
            f"inputs up to position {i} change with token {i}",
        )


def _up_to(i: int, noised: Noised) -> Tensor:
    """The inputs up to the first that stands at position `i`: ``[B, S]`` bool."""
    columns, where = torch.arange(noised.inputs.shape[-1]), noised.attention.positions
    where = columns.expand(noised.inputs.shape) if where is None else where
    return columns <= (where == i).long().argmax(-1, keepdim=True)


def _check_loss(subject: Subject) -> None:
    """The loss is the sum it should be, recomputed here in float64."""
    contract = subject.contract
    denoiser = HashDenoiser(subject.vocab.size)
    noised = subject.corrupt(torch.arange(ROWS))
    loss = subject.objective.loss(denoiser, noised)
    causal = _causal(noised)[:, None]
    h = denoiser(noised.inputs, t=noised.t, attention=noised.attention)
    shifted = denoiser(noised.inputs, attention=evolve(noised.attention, causal=True))
    h = torch.where(causal[..., None], shifted, h)
    nll = cross_entropies(denoiser.unembed(h), noised.targets, subject.vocab.mask_id)
    nll = (nll * noised.in_loss).detach()
    expected = float((nll * noised.weights.double()).sum())
    contract.require(
        loss.total.shape == () and loss.total.dtype == torch.float32 and loss.total.requires_grad,
        "Loss.total is a float32 scalar with a gradient",
        lambda: repr(loss.total),
    )
    contract.require(
        math.isclose(loss.total.item(), expected, rel_tol=1e-4),
        "Loss.total is the weighted sum of cross-entropies, never a mean",
        f"{loss.total.item():.6f}, expected {expected:.6f}",
    )
    right = loss.nll.shape == (ROWS,) and loss.nll.dtype == torch.float32
    contract.require(
        right and not loss.nll.requires_grad, "Loss.nll is [B] float32, detached", repr(loss.nll)
    )
    counted = noised.in_loss & ~causal
    gap = float((loss.nll - (nll * counted).sum(-1)).abs().max())
    contract.require(
        gap <= 1e-3, "Loss.nll is each row's unweighted sum", f"off by up to {gap:.6g} nats"
    )
    contract.require(
        loss.tokens.dtype == torch.int64 and torch.equal(loss.tokens, counted.sum(-1)),
        "Loss.tokens counts the positions in the loss",
        lambda: repr(loss.tokens),
    )
