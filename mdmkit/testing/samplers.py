"""The contract of samplers: what is visible stays, no mask is left, a row has its own text."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import torch
from attrs import define, evolve, frozen
from torch import Tensor

from mdmkit.draws import RowStreams
from mdmkit.protocols import NetworkLogits, NoiseSchedule, Prediction, Sampler, SamplerContext
from mdmkit.protocols.outcome import no_cache
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import VOCAB, GlobalGenerator, HashDenoiser
from mdmkit.values import Attention, Generation, Vocabulary

_ROWS, _LENGTH = 5, 12
_SHORTER = (7, 4)
"""Lengths that a network was trained on, for samplers that fill longer rows."""


@define(eq=False)
class _Memory:
    """A key-value cache that keeps the tokens themselves."""

    tokens: Tensor
    length: int


@define
class _Network:
    """The network that a sampler calls: counts the calls, and would love to say "mask"."""

    contract: Contract
    vocab: Vocabulary
    denoiser: HashDenoiser
    start: Tensor
    length: int
    calls: int = 0
    caches: int = 0

    def new_cache(self, rows: int, length: int) -> _Memory:
        """Make one that holds nothing yet."""
        self.caches += 1
        return _Memory(torch.zeros(rows, 0, dtype=torch.int64), length)

    def some_rows(self, rows: Tensor) -> NetworkLogits:
        """The network for calls with these rows."""

        def logits(
            xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None = None
        ) -> Tensor:
            start = self.start[rows]
            given = start != self.vocab.mask_id
            self.contract.require(
                xt.shape != start.shape or torch.equal(xt[given], start[given]),
                "context.logits_of(rows) is shown the rows that it was asked for",
                lambda: f"other tokens than rows {rows.tolist()} were given",
            )
            return self._logits(len(rows), xt, t, attention, at)

        return logits

    def __call__(
        self, xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        return self._logits(len(self.start), xt, t, attention, at)

    def _logits(
        self, rows: int, xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None
    ) -> Tensor:
        self._check(rows, xt, t, at)
        self.calls += 1
        seen = self._remembered(xt, attention)
        where = attention.positions
        shown = seen.shape[1] if where is None else int(where.max()) + 1
        self.contract.require(
            shown <= self.length,
            "the network is shown context.length tokens at most (positions, where they are given)",
            lambda: f"{shown}, and it was trained on {self.length}",
        )
        with torch.no_grad():
            h = self.denoiser(seen, attention=evolve(attention, cache=None))
            logits = self.denoiser.unembed(h[:, -xt.shape[1] :])
        logits[..., self.vocab.mask_id] += 20.0
        return logits if at is None else logits[at]

    def _remembered(self, xt: Tensor, attention: Attention) -> Tensor:
        """All that the network sees: ``[B, n]`` behind what the cache holds, which then grows."""
        cache = attention.cache
        if cache is None:
            return xt
        self.contract.require(
            isinstance(cache, _Memory) and attention.features() == {"cache", "causal"},
            "a cache is one of context.new_cache, for causal attention and nothing else",
            lambda: f"{type(cache).__name__}, {sorted(attention.features())}",
        )
        assert isinstance(cache, _Memory)
        rows, held = cache.tokens.shape
        self.contract.require(
            len(xt) == rows and held + xt.shape[1] <= cache.length,
            "a cache is given the rows that it was made for, and no more than it has room for",
            lambda: f"{list(xt.shape)} behind {held}, in one for {rows} rows of {cache.length}",
        )
        cache.tokens = torch.cat([cache.tokens, xt], dim=-1)
        return cache.tokens

    def _check(self, rows: int, xt: Tensor, t: Tensor | None, at: Tensor | None) -> None:
        self.contract.require(
            xt.ndim == 2 and xt.dtype == torch.int64,
            "the network is called with tokens [B, L] int64",
            lambda: f"{list(xt.shape)} {xt.dtype}",
        )
        self.contract.require(
            len(xt) == rows,
            "a call shows every row; calls with some of them go through context.logits_of",
            lambda: f"{len(xt)} rows of {rows}",
        )
        self.contract.require(
            t is None or (t.shape == xt.shape[:1] and t.is_floating_point()),
            "the network is called with t [B] of floats, or None",
            lambda: f"t {list(t.shape)} {t.dtype}" if t is not None else "",
        )
        self.contract.require(
            t is None or ((t >= 0) & (t <= 1)).all(),  # nan is neither
            "t is in [0, 1]",
            lambda: f"{t.tolist()}" if t is not None else "",
        )
        self.contract.require(
            at is None or (at.shape == xt.shape and at.dtype == torch.bool),
            "the network is called with at [B, L] bool or None",
            lambda: f"at {list(at.shape)} {at.dtype}" if at is not None else "",
        )


@frozen(kw_only=True)
class _Subject:
    """A sampler and what it is tried on."""

    contract: Contract
    sampler: Sampler
    vocab: Vocabulary
    noise_schedule: NoiseSchedule
    start: Tensor
    length: int = _LENGTH

    def states(self, rows: range, seed: int = 0, *, cache: bool = True) -> list[Generation]:
        """Every state of the generation of these rows."""
        start = self.start[rows.start : rows.stop]
        network = _Network(
            contract=self.contract,
            vocab=self.vocab,
            denoiser=HashDenoiser(self.vocab.size, length=_LENGTH),
            start=start,
            length=self.length,
        )
        context = SamplerContext(
            logits=network,
            uniform=RowStreams(seed, rows, _LENGTH),
            vocab=self.vocab,
            noise_schedule=self.noise_schedule,
            device=torch.device("cpu"),
            length=self.length,
            some_rows=network.some_rows,
            new_cache=network.new_cache if cache else no_cache,
        )
        given, states = start.clone(), []
        for state in self.sampler.generate(given, context):
            states.append(state)
            self.contract.require(
                state.network_evaluations == network.calls,
                "network_evaluations counts the calls up to each state",
                f"{state.network_evaluations} stated at step {state.step}, {network.calls} made",
            )
        untouched = torch.equal(given, start)
        self.contract.require(untouched, "generate leaves its argument alone", "it was changed")
        self.contract.require(states, "generate yields every state", "none")
        if network.caches:
            plain = self.states(rows, seed, cache=False)[-1].tokens
            same = torch.equal(states[-1].tokens, plain)
            self.contract.require(same, "a cache changes no text", "another one without it")
        return states


def check_sampler(sampler: Sampler | Any, *, noise_schedule: NoiseSchedule | None = None) -> None:
    """Generate from partly masked rows, in one batch and in several, and compare.

    Args:
        sampler: the component.
        noise_schedule: the schedule it is given; linear if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    from mdmkit.builtin.schedules import Linear

    contract = Contract.of("sampler", sampler)
    kinds = get_args(Prediction)
    contract.require(
        sampler.prediction in kinds, f"prediction is of {kinds}", repr(sampler.prediction)
    )
    start = torch.full((_ROWS, _LENGTH), VOCAB.mask_id)
    start[1, 3:6] = 4
    start[2] = torch.arange(_LENGTH) % VOCAB.mask_id  # nothing to do in this row
    start[3, -1] = 7
    subject = _Subject(
        contract=contract,
        sampler=sampler,
        vocab=VOCAB,
        noise_schedule=noise_schedule or Linear(),
        start=start,
    )
    generator = GlobalGenerator.now()
    for seed in range(3):
        states = subject.states(range(_ROWS), seed)
        _check_states(subject, states)
        _check_batches(subject, states[-1].tokens, seed)
    if getattr(sampler, "any_length", False):  # it says so: rows longer than the network knows
        for length in _SHORTER:
            shorter = evolve(subject, length=length)
            states = shorter.states(range(_ROWS))
            _check_states(shorter, states)
        _check_batches(shorter, states[-1].tokens, 0)
    contract.require(
        generator.untouched(), "randomness comes from context.uniform alone", "torch's own was used"
    )


def _check_states(subject: _Subject, states: list[Generation]) -> None:
    contract, start = subject.contract, subject.start
    visible = start != subject.vocab.mask_id
    for state in states:
        tokens = state.tokens
        contract.require(
            tokens.shape == start.shape and tokens.dtype == torch.int64,
            "a state's tokens are [B, L] int64",
            f"{list(tokens.shape)} {tokens.dtype}",
        )
        inside = bool(((tokens >= 0) & (tokens < subject.vocab.size)).all())
        contract.require(inside, "tokens are ids of the vocabulary", "others")
        lost = int((tokens != start)[visible].sum())
        clause = "a token visible at the start never changes"
        contract.require(not lost, clause, f"{lost} changed at step {state.step}")
        _check_log_p(subject, state)
    left = int((states[-1].tokens == subject.vocab.mask_id).sum())
    contract.require(not left, "the last state holds no mask", f"{left} of {start.numel()}")
    steps = [state.step for state in states]
    counted = steps == list(range(1, len(steps) + 1))
    contract.require(counted, "every state is given out, and step counts them from 1", repr(steps))
    calls = [state.network_evaluations for state in states]
    contract.require(calls == sorted(calls), "network_evaluations never falls", repr(calls))


def _check_log_p(subject: _Subject, state: Generation) -> None:
    log_p, start = state.log_p, subject.start
    if log_p is None:
        return
    contract, visible = subject.contract, start != subject.vocab.mask_id
    contract.require(
        log_p.shape == start.shape and log_p.dtype == torch.float64,
        "log_p is [B, L] float64 or None",
        lambda: f"{list(log_p.shape)} {log_p.dtype}",
    )
    contract.require(bool((log_p <= 0).all()), "log_p is never positive", f"{float(log_p.max())}")
    plain = not log_p[visible].any()
    contract.require(plain, "log_p is 0 at tokens visible from the start", "it is not")
    early = log_p[state.tokens == subject.vocab.mask_id].any()
    contract.require(not early, "log_p is 0 where a mask still is", f"not at step {state.step}")


def _check_batches(subject: _Subject, whole: Tensor, seed: int) -> None:
    clause = "the same seed gives the same text whatever the batch"
    for split in ((0, 5), (0, 2, 5), (0, 1, 2, 3, 4, 5)):
        parts = [range(a, b) for a, b in itertools.pairwise(split)]
        tokens = torch.cat([subject.states(rows, seed)[-1].tokens for rows in parts])
        differ = (tokens != whole).any(-1).nonzero()[:, 0].tolist()
        subject.contract.require(
            not differ, clause, f"rows {differ} differ when cut at {split[1:-1]}"
        )
