"""The contract of mask patterns, by numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, get_args

import attrs
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.protocols import CountLaw, MaskPattern, RunFacts
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import GlobalGenerator, live

SIGMAS = 5.0
"""Standard errors that an estimate may be away from its expectation."""
RATES = (0.04, 0.15, 0.5, 0.83, 0.97)


@frozen(kw_only=True)
class _Trial:
    """The arguments of ``mask``: `rows` rows of one rate, with fresh noise for each group."""

    rate: Tensor
    noise: Tensor
    row_noise: Tensor
    member: Tensor
    maskable: Tensor

    @classmethod
    def draw(cls, rates: Tensor, maskable: Tensor, group: int, seed: int) -> _Trial:
        """Noise for the rows of ``rates [B]``; twins are consecutive, as in a global batch."""
        rows, length = len(rates), maskable.shape[-1]
        source = torch.Generator().manual_seed(seed)
        groups = -(-rows // group)
        noise = torch.rand(groups, length, generator=source)
        row_noise = torch.rand(groups, generator=source)
        return cls(
            rate=rates,
            noise=noise.repeat_interleave(group, 0)[:rows],
            row_noise=row_noise.repeat_interleave(group, 0)[:rows],
            member=torch.arange(rows) % group,
            maskable=maskable.expand(rows, length),
        )

    def of_rows(self, rows: Tensor) -> _Trial:
        """The trial of some of the rows, an index or ``[B]`` bool."""
        parts: dict[str, Tensor] = attrs.asdict(self)
        return _Trial(**{name: part[rows] for name, part in parts.items()})

    def mask(self, pattern: MaskPattern, order: Tensor | None = None, step: int = 0) -> Tensor:
        """What the pattern masks at `step`, of the rows in `order`."""
        trial = self if order is None else self.of_rows(order)
        return pattern.mask(**attrs.asdict(trial), step=step)


def check_mask_pattern(
    pattern: MaskPattern | Any,
    *,
    rates: Iterable[float] = RATES,
    length: int = 24,
    rows: int = 8192,
    seed: int = 0,
    facts: RunFacts | None = None,
) -> None:
    """Check ``mask``, ``rate``, ``count_law``, ``group`` and ``every_context``.

    Args:
        pattern: the component, or options with ``build(facts)``.
        rates: mask rates at which frequencies are compared with what the pattern states.
        length: L.
        rows: rows a rate; the more, the smaller the error that is noticed.
        seed: of the noise.
        facts: for ``build``; made up if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("mask pattern", pattern)
    pattern = live(pattern, facts)
    group, law = pattern.group, pattern.count_law
    contract.require(
        isinstance(group, int) and group >= 1, "group is a whole number >= 1", repr(group)
    )
    contract.require(law in get_args(CountLaw), f"count_law is of {get_args(CountLaw)}", repr(law))
    contract.require(
        isinstance(pattern.every_context, bool),
        "every_context is a bool",
        repr(pattern.every_context),
    )
    _check_mask(contract, pattern, length, seed)
    full = torch.ones(1, length, dtype=torch.bool)
    gappy = full & (torch.arange(length) % 3 != 1)
    for number, (rate, maskable) in enumerate(itertools.product(rates, (full, gappy))):
        asked = torch.full((rows - rows % group,), rate, dtype=torch.float64)
        trial = _Trial.draw(asked, maskable, group, seed + number)
        _check_rate(contract, pattern, trial)
        mask = trial.mask(pattern)
        if group > 1:  # a twin's count follows from a rate of its own
            own = pattern.rate(trial.rate, trial.member, trial.maskable.sum(-1))
            trial = attrs.evolve(trial, rate=own)
        for member in range(group):
            mine = trial.member == member
            _CHECKS_BY_LAW[law](contract, trial.of_rows(mine), mask[mine])
    if pattern.every_context:
        _check_every_context(contract, pattern, seed)


def _check_mask(contract: Contract, pattern: MaskPattern, length: int, seed: int) -> None:
    """Shape, type, subset; a function of its arguments, row by row."""
    rows = 12 * pattern.group
    source = torch.Generator().manual_seed(seed)
    maskable = torch.rand(rows, length, generator=source) < 0.7
    maskable[0], maskable[1] = False, True
    rates = torch.rand(rows, generator=source, dtype=torch.float64).clamp(0.01, 0.99)
    trial = _Trial.draw(rates, maskable, pattern.group, seed)
    copies = {name: part.clone() for name, part in attrs.asdict(trial).items()}
    generator = GlobalGenerator.now()
    mask = trial.mask(pattern)
    contract.require(
        mask.shape == maskable.shape and mask.dtype == torch.bool,
        "mask returns [B, L] bool",
        lambda: f"{list(mask.shape)} {mask.dtype} for [B, L] = {list(maskable.shape)}",
    )
    contract.require(
        not (mask & ~maskable).any(),
        "the mask is a subset of maskable",
        lambda: f"{int((mask & ~maskable).sum())} positions outside are masked",
    )
    same = torch.equal(mask, trial.mask(pattern)) and generator.untouched()
    clause = "the mask is a function of its arguments"
    contract.require(same, clause, "another mask, or torch's own generator in use")
    kept = all(torch.equal(copies[name], part) for name, part in attrs.asdict(trial).items())
    contract.require(kept, "mask leaves its arguments alone", "an argument was changed")
    order = torch.arange(rows).flip(0)[: rows - 2]  # another order, and two rows away
    contract.require(
        torch.equal(trial.mask(pattern, order), mask[order]),
        "a row's mask does not depend on the other rows",
        "other masks for some of the rows in another order",
    )


def _check_rate(contract: Contract, pattern: MaskPattern, trial: _Trial) -> None:
    """The frequency of masking, by member and position, is what ``rate`` states."""
    size = trial.maskable.sum(-1)
    stated = pattern.rate(trial.rate, trial.member, size)
    inside = stated.shape == trial.rate.shape and bool(((stated >= 0) & (stated <= 1)).all())
    contract.require(inside, "rate returns probabilities [B]", lambda: repr(stated))
    mask = trial.mask(pattern)
    for member in range(pattern.group):
        mine = trial.member == member
        expected, where = float(stated[mine][0]), trial.maskable[0]
        error = math.sqrt(expected * (1 - expected) / int(mine.sum()))
        found = mask[mine].double().mean(0)[where]
        worst = int((found - expected).abs().argmax())
        gap = abs(float(found[worst]) - expected)
        contract.require(
            gap <= SIGMAS * error + 1e-6,
            "each maskable position is masked with probability rate(rate, member, size)",
            f"frequency {float(found[worst]):.5f} at maskable position {worst} of {len(found)}, "
            f"stated {expected:.5f} ± {error:.5f} (asked for {float(trial.rate[0]):g}, "
            f"member {member})",
        )


def _check_binomial(contract: Contract, trial: _Trial, mask: Tensor) -> None:
    rate, size = float(trial.rate[0]), int(trial.maskable[0].sum())
    counts = mask.sum(-1).bincount(minlength=size + 1).double() / len(mask)
    for k in range(size + 1):
        expected = math.comb(size, k) * rate**k * (1 - rate) ** (size - k)
        error = math.sqrt(expected * (1 - expected) / len(mask))
        contract.require(
            abs(float(counts[k]) - expected) <= SIGMAS * error + 2 / len(mask),
            "count_law binomial: the number of masks is Bin(n, rate)",
            f"P({k} of {size}) = {float(counts[k]):.5f}, expected {expected:.5f} ± {error:.5f}",
        )


def _check_ceiling(contract: Contract, trial: _Trial, mask: Tensor) -> None:
    size = int(trial.maskable[0].sum())
    wanted = math.ceil(float(trial.rate[0]) * size)
    found = mask.sum(-1)
    contract.require(
        bool((found == wanted).all()),
        "count_law ceiling: ⌈rate·n⌉ tokens are masked",
        lambda: f"{int(found.min())} to {int(found.max())} of {size}, expected {wanted}",
    )
    _check_pairs(contract, trial, mask, wanted * (wanted - 1) / (size * (size - 1)))


def _check_pairs(contract: Contract, trial: _Trial, mask: Tensor, expected: float) -> None:
    """Two positions are masked together as often as in a uniformly chosen subset."""
    chosen = mask[:, trial.maskable[0]].double()
    together = (chosen.T @ chosen / len(chosen)).fill_diagonal_(expected)
    error = math.sqrt(expected * (1 - expected) / len(chosen))
    worst = float((together - expected).abs().max())
    contract.require(
        worst <= (SIGMAS + 1) * error + 1e-6,  # many pairs, so one sigma more
        "count_law ceiling: the masked subset is uniform",
        f"a pair is masked together {worst:.5f} away from {expected:.5f} ± {error:.5f}",
    )


def _check_nothing(contract: Contract, trial: _Trial, mask: Tensor) -> None:
    """``other`` promises nothing."""


_CHECKS_BY_LAW = {"binomial": _check_binomial, "ceiling": _check_ceiling, "other": _check_nothing}


def _check_every_context(contract: Contract, pattern: MaskPattern, seed: int) -> None:
    """Every set of at least one masked position of four turns up, at some rate."""
    length, rows = 4, 16384 - 16384 % pattern.group
    rates = torch.linspace(0.05, 0.95, rows, dtype=torch.float64)
    everywhere = torch.ones(1, length, dtype=torch.bool)
    mask = _Trial.draw(rates, everywhere, pattern.group, seed).mask(pattern)
    seen = set((mask.long() @ (2 ** torch.arange(length))).tolist())
    missing = sorted(set(range(1, 2**length)) - seen)
    contract.require(
        not missing,
        "every_context: every set of visible tokens stays possible",
        lambda: f"of 4 positions the set {missing[0]:04b} was never masked in {rows} rows",
    )
