"""What a recipe really trains on: the two curves that its parts induce together.

Noise schedule, time sampler and loss weighting say more than can be told apart: only the density
of the mask ratio r and the weight on h(r), the mean cross-entropy of a masked token at mask ratio
r, decide what a loss optimises. A bell in t under a cosine schedule is no bell in mask ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import time_at_mask_rate
from mdmkit.report.masked_rows import (
    Rows,
    by_count,
    by_position,
    mean_weight,
    own_rate,
    rows_at,
)
from mdmkit.report.planned import NotKnownYet, Planned, planned

if TYPE_CHECKING:
    from mdmkit.protocols import Density
    from mdmkit.recipe import Recipe

_DRAWN_TOKENS = 2**15  # at each mask ratio, where masks are drawn
_LOOKS = 25  # steps at which a run is looked at, to find those worth showing
_MOVED = 1e-3  # of the curves' height: a step on the way that is nearer to an end is not shown
_SAME = 1e-12  # rounding


@frozen(kw_only=True)
class Detail:
    """How closely the curves are looked at.

    Attributes:
        points: cells of the mask ratio.
        quantiles: midpoints in u over which expectations are taken.
        drawn: the same, and masks each, where masks are drawn (`draws` for 128 tokens).
        draws: masks at each mask ratio, for blocks of 128 tokens.
    """

    points: int
    quantiles: int = 8192
    drawn: int = 256
    draws: int = _DRAWN_TOKENS // 128

    def draws_of(self, length: int) -> int:
        """How many masks of that length are drawn, so that the tokens are about as many."""
        return min(max(self.draws * 128 // length, 16), 512)


_GLANCE = Detail(points=20, quantiles=256, drawn=32, draws=32)


@frozen(kw_only=True)
class Curves:
    """The induced curves at the midpoints of equal cells of the mask ratio.

    Attributes:
        step: the optimizer step they are for.
        mask_ratio: r, the share of a row's tokens that is masked.
        density: p(r), how often training sees that ratio; integrates to 1.
        weight: the training loss is, in expectation, the integral of weight(r)·h(r) over r.
            Standard training, the NELBO, has weight 1 everywhere.
        by_position: whether the weight differs between the masked tokens of a row; shown is its
            mean over them.
        by_count: whether the weight depends on the number of masked tokens; it is then shown for
            the expected number.
        notes: what the curves leave out.
    """

    step: int
    mask_ratio: tuple[float, ...]
    density: tuple[float, ...]
    weight: tuple[float, ...]
    by_position: bool = False
    by_count: bool = False
    notes: tuple[str, ...] = ()


def why_no_curves(recipe: Recipe) -> str | None:
    """Why a recipe has no curves before it runs, or None where it has."""
    if recipe.objective.prediction != "masked":
        return f'the objective trains a "{recipe.objective.prediction}" prediction: no mask ratio'
    try:
        _curves(planned(recipe), 0, Detail(points=2, quantiles=2, drawn=2, draws=1))
    except NotKnownYet as unknown:
        return str(unknown)
    return None


def effective_curves(recipe: Recipe, points: int = 50, step: int = 0) -> Curves:
    """The density of the mask ratio and the effective weight on h.

    With r = 1 − alpha(t) and t ~ q: p(r) = q(t)/|alpha'(t)|, and the weight on h(r) is
    p(r)·w·r, where w is what the loss weighting gives at that t with r·L masked tokens, divided
    by E[r] (normalizer ``masked``), by E[w·r] (``weights``), by 1 (``tokens``); ``sequence``
    divides each row by its own masked count, which leaves p(r)·w. Both curves are means over the
    twins of a mask pattern, each at its own rate. A pattern that rounds counts the tokens of its
    own rate at the r it was asked for; the two are less than a token apart.

    Args:
        recipe: with its options objects.
        points: how many cells (0, 1) is cut into.
        step: the optimizer step, for densities and weights that change over training.

    Raises:
        ValueError: where there are none; `why_no_curves` says why.
    """
    parts = _parts(recipe)
    return _curves(parts, step, Detail(points=points), tuple(_notes(recipe, parts)))


def curves_over_training(recipe: Recipe) -> list[Curves]:
    """The curves at the first step and, where they change, at the last and on the way.

    On the way: at that of 25 evenly spaced steps whose curves are farthest from both ends', if
    they are not (about) those of an end.

    Raises:
        ValueError: where there are none; `why_no_curves` says why.
    """
    parts = _parts(recipe)
    notes = tuple(_notes(recipe, parts))
    steps = _steps_worth_showing(parts, recipe.train.steps)
    return [_curves(parts, step, Detail(points=50), notes) for step in steps]


def _parts(recipe: Recipe) -> Planned:
    reason = why_no_curves(recipe)
    if reason is not None:
        raise ValueError(f"no curves: {reason}")
    return planned(recipe)


def _steps_worth_showing(parts: Planned, steps: int) -> list[int]:
    looks = sorted({round(i * (steps - 1) / (_LOOKS - 1)) for i in range(_LOOKS)})
    seen = [_curves(parts, step, _GLANCE) for step in looks]
    table = torch.tensor([[c.density, c.weight] for c in seen], dtype=torch.float64)
    # [looks, 2, points]
    height = table.amax((0, 2)).clamp(min=1e-12)[:, None]
    from_first, from_last = (
        ((table - end) / height).abs().amax((1, 2)) for end in (table[0], table[-1])
    )
    middle = int(torch.minimum(from_first, from_last).argmax())
    shown = [looks[0]]
    if min(from_first[middle], from_last[middle]) > _MOVED:
        shown.append(looks[middle])
    if from_first[-1] > _SAME or len(shown) > 1:
        shown.append(looks[-1])
    return shown


def _curves(parts: Planned, step: int, detail: Detail, notes: tuple[str, ...] = ()) -> Curves:
    density = parts.time_sampler.at(step)
    ratio = (torch.arange(detail.points, dtype=torch.float64) + 0.5) / detail.points
    group = parts.mask_pattern.group
    seen, weighed = torch.zeros_like(ratio), torch.zeros_like(ratio)
    for member in range(group):
        p, own = _twin(parts, density, ratio, member, step, detail)
        seen += p / group
        # Where nothing is drawn, an importance weight is infinite and means nothing.
        weighed += torch.where(p > 0, p * own, 0.0) / group
    drawn = _at_half(by_position, parts, step)
    weighed /= _divisor(parts, density, step, detail, drawn=drawn)
    return Curves(
        step=step,
        mask_ratio=tuple(ratio.tolist()),
        density=tuple(seen.tolist()),
        weight=tuple(weighed.tolist()),
        by_position=drawn,
        by_count=_at_half(by_count, parts, step),
        notes=notes,
    )


def _twin(
    parts: Planned, density: Density, ratio: Tensor, member: int, step: int, detail: Detail
) -> tuple[Tensor, Tensor]:
    """p(r) of one twin, and its summed weight per token of a row, at its own mask ratio."""
    schedule = parts.noise_schedule
    # A twin's rate is r or 1 − r, which undoes itself: who has the rate r was asked for this.
    asked = ratio if parts.mask_pattern.group == 1 else own_rate(parts, ratio, member)
    t = time_at_mask_rate(schedule.alpha, asked)
    ends = 1 - schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    reached = (asked > ends[0]) & (asked < ends[1])
    p = torch.where(reached, density.density(t) / schedule.dalpha(t).abs(), 0.0)
    rows = rows_at(parts, density, t, asked, member)
    weight = mean_weight(parts, rows, step, detail.draws_of(parts.length))
    by_row = parts.loss_weighting.normalizer == "sequence"
    return p, weight if by_row else weight * rows.rate


def _divisor(parts: Planned, density: Density, step: int, detail: Detail, *, drawn: bool) -> float:
    """What the weighted sum is divided by, per token of the batch, in expectation."""
    normalizer = parts.loss_weighting.normalizer
    if normalizer not in ("masked", "weights"):
        return 1.0
    by_weight = normalizer == "weights"
    quantiles = detail.drawn if drawn and by_weight else detail.quantiles
    u = (torch.arange(quantiles, dtype=torch.float64) + 0.5) / quantiles
    t = density.icdf(u)
    asked = 1 - parts.noise_schedule.alpha(t)
    twins = [rows_at(parts, density, t, asked, n) for n in range(parts.mask_pattern.group)]
    if by_weight:
        draws = detail.draws_of(parts.length)
        each = [mean_weight(parts, rows, step, draws) * rows.rate for rows in twins]
    else:
        each = [rows.rate for rows in twins]
    return torch.stack(each).mean().item()


def _at_half(question: Callable[[Planned, Rows, int], bool], parts: Planned, step: int) -> bool:
    """Ask something of the weight of a row half of which is masked."""
    half = torch.full((1,), 0.5, dtype=torch.float64)
    return question(parts, rows_at(parts, parts.time_sampler.at(step), half, half, 0), step)


def _notes(recipe: Recipe, parts: Planned) -> Iterator[str]:
    """What the curves leave out."""
    if any(hasattr(parts.time_sampler, told) for told in ("observe", "validated")):
        yield "the time sampler adapts to the run: shown is the density it starts from"
    if _at_half(by_count, parts, 0):
        yield (
            "the weight also depends on the number of masked tokens: shown is that of the expected "
            "number, so the curve is off where few tokens are masked"
        )
    if _at_half(by_position, parts, 0):
        yield (
            "the weight also depends on the position of a token in its row: shown is the mean "
            "over masked tokens, by masks that the mask pattern drew"
        )
    tables = ("noise_schedule", "time_sampler", "mask_pattern", "loss_weighting", "objective")
    for table in tables:
        remark = getattr(getattr(recipe, table), "remark", None)
        if remark is not None:
            yield remark
