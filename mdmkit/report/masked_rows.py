"""Rows as an objective would draw them, and the mean weight of their masked tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.diffusion import time_at_mask_rate

if TYPE_CHECKING:
    from mdmkit.protocols import Density
    from mdmkit.report.planned import Planned

_SEED = 0x6D61736B
_ENTRIES = 2**20  # of [rows, L] that are worked on at once


@frozen(kw_only=True, eq=False)
class Rows:
    """Rows of one twin, ``[B]`` float64 each.

    Attributes:
        asked: the mask rate that the mask pattern is asked for.
        rate: the one it then has.
        t, density: the row's time, and the density of times there.
        member: which twin they are; 0 for patterns without.
    """

    asked: Tensor
    rate: Tensor
    t: Tensor
    density: Tensor
    member: int

    def repeated(self, times: int) -> Rows:
        """Each row several times, one copy after the other."""
        names = ("asked", "rate", "t", "density")
        return evolve(self, **{n: getattr(self, n).repeat_interleave(times) for n in names})


def rows_at(parts: Planned, density: Density, t: Tensor, asked: Tensor, member: int) -> Rows:
    """The rows whose drawn time is `t`; a twin with a mask rate of its own has its own time.

    A twin's rate keeps lengths, so its density is q(t')/|alpha'(t')| = q(t)/|alpha'(t)|.

    Args:
        parts: the live components.
        density: of t.
        t: ``[B]`` the time that was drawn.
        asked: ``[B]`` the mask rate there.
        member: which twin.
    """
    schedule, q = parts.noise_schedule, density.density(t)
    rate = own_rate(parts, asked, member)
    if parts.mask_pattern.group == 1:
        return Rows(asked=asked, rate=rate, t=t, density=q, member=member)
    moved = torch.where(rate == asked, t, time_at_mask_rate(schedule.alpha, rate))
    q = q * (schedule.dalpha(moved) / schedule.dalpha(t))
    return Rows(asked=asked, rate=rate, t=moved, density=q, member=member)


def own_rate(parts: Planned, asked: Tensor, member: int) -> Tensor:
    """The mask rate of a full row of twin `member`: ``[B] -> [B]``."""
    members = torch.full(asked.shape, member)
    return parts.mask_pattern.rate(asked, members, torch.full_like(asked, parts.length)).double()


def by_position(parts: Planned, rows: Rows, step: int) -> bool:
    """Whether the weight differs from one masked token of a row to another."""
    first = evolve(rows, **{n: getattr(rows, n)[:1] for n in ("asked", "rate", "t", "density")})
    return _weights(parts, first, _leading(first, parts.length), step).ndim == 2


def by_count(parts: Planned, rows: Rows, step: int) -> bool:
    """Whether the weight looks at how many tokens of a row are masked, at one and the same time."""
    mask = _leading(rows, parts.length)
    few, many = (
        _weights(parts, rows, mask, step, torch.full_like(rows.t, share * parts.length))
        for share in (0.25, 0.75)
    )
    return not torch.equal(few, many)


def mean_weight(parts: Planned, rows: Rows, step: int, draws: int) -> Tensor:
    """The mean weight of a masked token of each row: ``[B]`` float64.

    A weight of ``[B]`` is asked for with as many masked tokens as are expected. One of ``[B, L]``
    is averaged over masks that the recipe's own pattern draws, the same noise for every row, so
    that the result is smooth in the rate: Σ w over Σ masked tokens, or, where each row is divided
    by its own masked count, the mean of the rows' own means.

    Args:
        parts: the live components.
        rows: B of them.
        step: the optimizer step.
        draws: how many masks a row, where masks are drawn.
    """
    if not by_position(parts, rows, step):
        return _weights(parts, rows, _leading(rows, parts.length), step, rows.rate * parts.length)
    source = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(draws, parts.length, generator=source)
    row_noise = torch.rand(draws, generator=source)
    at_once = max(_ENTRIES // (len(rows.t) * parts.length), 1)
    total, count = torch.zeros_like(rows.t), torch.zeros_like(rows.t)
    for start in range(0, draws, at_once):
        some = slice(start, start + at_once)
        summed, masked = _drawn(parts, rows, step, noise[some], row_noise[some])
        total, count = total + summed, count + masked
    return total / count.clamp(min=1)


def _drawn(
    parts: Planned, rows: Rows, step: int, noise: Tensor, row_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Summed weights and what they are divided by, for each row: ``[B]`` both."""
    copies, every = len(noise), rows.repeated(len(noise))
    mask = parts.mask_pattern.mask(
        rate=every.asked,
        noise=noise.repeat(len(rows.t), 1),
        row_noise=row_noise.repeat(len(rows.t)),
        member=torch.full(every.t.shape, rows.member),
        maskable=torch.ones(len(every.t), parts.length, dtype=torch.bool),
        step=step,
    )
    summed = torch.where(mask, _weights(parts, every, mask, step), 0.0).sum(-1)
    count = mask.sum(-1).double()
    if parts.loss_weighting.normalizer == "sequence":
        summed, count = summed / count.clamp(min=1), (count > 0).double()
    return summed.reshape(-1, copies).sum(-1), count.reshape(-1, copies).sum(-1)


def _weights(
    parts: Planned, rows: Rows, mask: Tensor, step: int, count: Tensor | None = None
) -> Tensor:
    """What the loss weighting says: ``[B]`` or ``[B, L]`` float64."""
    schedule = parts.noise_schedule
    weight = parts.loss_weighting.weight(
        t=rows.t,
        alpha_t=schedule.alpha(rows.t),
        dalpha_t=schedule.dalpha(rows.t),
        density=rows.density,
        mask=mask,
        mask_count=mask.sum(-1).double() if count is None else count,
        token_count=torch.full_like(rows.t, parts.length),
        step=step,
    )
    return weight.double()


def _leading(rows: Rows, length: int) -> Tensor:
    """Masks of about the right size, for weights that ask for nothing else: ``[B, L]``."""
    return torch.arange(length) < (rows.rate * length).round().clamp(min=1)[:, None]
