"""What a recipe really trains on: the two curves that its parts induce together.

Noise schedule, time sampler and loss weighting say more than can be told apart: only the density
of the mask ratio r and the weight on h(r), the mean cross-entropy of a masked token at mask ratio
r, decide what a loss optimises. A bell in t under a cosine schedule is no bell in mask ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import time_at_mask_rate

if TYPE_CHECKING:
    from mdmkit.protocols import Density
    from mdmkit.recipe import Recipe

_QUANTILES = 8192  # midpoints in u over which expectations are taken
_BARS = " ▁▂▃▄▅▆▇█"
_TABLE_ROWS = 10
_NEEDED = {
    "noise_schedule": ("alpha", "dalpha"),
    "time_sampler": ("at",),
    "loss_weighting": ("weight", "normalizer"),
}


@frozen(kw_only=True)
class Curves:
    """The induced curves at the midpoints of equal cells of the mask ratio.

    Attributes:
        step: the optimizer step they are for.
        mask_ratio: r, the share of a row's tokens that is masked.
        density: p(r), how often training sees that ratio; integrates to 1.
        weight: the training loss is, in expectation, the integral of weight(r)·h(r) over r.
            Standard training, the NELBO, has weight 1 everywhere.
        notes: what the curves leave out.
    """

    step: int
    mask_ratio: tuple[float, ...]
    density: tuple[float, ...]
    weight: tuple[float, ...]
    notes: tuple[str, ...] = ()


def why_no_curves(recipe: Recipe) -> str | None:
    """Why a recipe has no curves before it runs, or None where it has."""
    if recipe.objective.prediction != "masked":
        return f'the objective trains a "{recipe.objective.prediction}" prediction: no mask ratio'
    for table, members in _NEEDED.items():
        if not all(hasattr(getattr(recipe, table), member) for member in members):
            return f"the {table.replace('_', ' ')} is built from facts of the run"
    return None


def effective_curves(recipe: Recipe, points: int = 50, step: int = 0) -> Curves:
    """The density of the mask ratio and the effective weight on h.

    With r = 1 − alpha(t) and t ~ q: p(r) = q(t)/|alpha'(t)|, and the weight on h(r) is
    p(r)·w·r, where w is what the loss weighting gives at that t with r·L masked tokens, divided
    by E[r] (normalizer ``masked``), by E[w·r] (``weights``), by 1 (``tokens``); ``sequence``
    divides each row by its own masked count, which leaves p(r)·w.

    Args:
        recipe: with its options objects.
        points: how many cells (0, 1) is cut into.
        step: the optimizer step, for densities and weights that change over training.

    Raises:
        ValueError: where there are none; `why_no_curves` says why.
    """
    reason = why_no_curves(recipe)
    if reason is not None:
        raise ValueError(f"no curves: {reason}")
    schedule = recipe.noise_schedule
    density = recipe.time_sampler.at(step)
    ratio = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    t = time_at_mask_rate(schedule.alpha, ratio)
    ends = 1 - schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    reached = (ratio > ends[0]) & (ratio < ends[1])
    p = torch.where(reached, density.density(t) / schedule.dalpha(t).abs(), 0.0)
    own = (
        _weight(recipe, density, t, step) * _share(recipe, ratio) / _divisor(recipe, density, step)
    )
    # Where nothing is drawn, an importance weight is infinite and means nothing.
    weight = torch.where(p > 0, p * own, 0.0)
    return Curves(
        step=step,
        mask_ratio=tuple(ratio.tolist()),
        density=tuple(p.tolist()),
        weight=tuple(weight.tolist()),
        notes=tuple(_notes(recipe)),
    )


def curves_over_training(recipe: Recipe) -> list[Curves]:
    """The curves at the first step and, where they differ by then, at the last."""
    first = effective_curves(recipe)
    last = effective_curves(recipe, step=recipe.train.steps - 1)
    same = (first.density, first.weight) == (last.density, last.weight)
    return [first] if same else [first, last]


def curve_lines(curves: Curves) -> list[str]:
    """The curves as a small table and a line of bars each."""
    cells = len(curves.mask_ratio)
    stride = max(cells // _TABLE_ROWS, 1)
    rows = {
        "mask ratio": curves.mask_ratio,
        "density": curves.density,
        "weight": curves.weight,
    }
    lines = [f"at step {curves.step}:"]
    for name, values in rows.items():
        shown = "".join(f"{value:8.3f}" for value in values[stride // 2 :: stride])
        lines.append(f"{name:<10}{shown}")
    for name in ("density", "weight"):
        values = rows[name]
        lines.append(f"{name:<10}  |{sparkline(values)}| 0 to {max(values):.3g}")
    return [*lines, *(f"note: {note}" for note in curves.notes)]


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, the tallest for the largest; nothing for 0.

    >>> sparkline([0.0, 0.5, 1.0])
    ' ▄█'
    """
    top = max(values)
    if top <= 0:
        return _BARS[0] * len(values)
    levels = [round(value / top * (len(_BARS) - 1)) for value in values]
    return "".join(
        _BARS[max(level, 1) if value > 0 else 0]
        for level, value in zip(levels, values, strict=True)
    )


def _weight(recipe: Recipe, density: Density, t: Tensor, step: int) -> Tensor:
    """The component's own weight at each t, with r·L masked tokens: ``[B] -> [B]``."""
    length = recipe.data.length
    alpha_t, dalpha_t = recipe.noise_schedule.alpha(t), recipe.noise_schedule.dalpha(t)
    count = (1 - alpha_t) * length
    mask = torch.arange(length) < count.round().clamp(min=1)[:, None]  # [B, L]
    weight = recipe.loss_weighting.weight(
        t=t,
        alpha_t=alpha_t,
        dalpha_t=dalpha_t,
        density=density.density(t),
        mask=mask,
        mask_count=count,
        token_count=torch.full_like(t, length),
        step=step,
    ).double()
    by_position = weight.reshape(len(t), -1).expand(mask.shape)  # [B] or [B, L] to [B, L]
    return torch.where(mask, by_position, 0.0).sum(-1) / mask.sum(-1)


def _share(recipe: Recipe, ratio: Tensor) -> Tensor:
    """How many masked tokens stand behind h(r), as a share of the row: r, or 1 if divided out."""
    by_row = recipe.loss_weighting.normalizer == "sequence"
    return torch.ones_like(ratio) if by_row else ratio


def _divisor(recipe: Recipe, density: Density, step: int) -> float:
    """What the weighted sum is divided by, per token of the batch, in expectation."""
    u = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    t = density.icdf(u)
    ratio = 1 - recipe.noise_schedule.alpha(t)
    divisors = {
        "masked": lambda: ratio.mean().item(),
        "weights": lambda: (_weight(recipe, density, t, step) * ratio).mean().item(),
    }
    divisor = divisors.get(recipe.loss_weighting.normalizer)
    return 1.0 if divisor is None else divisor()


def _notes(recipe: Recipe) -> list[str]:
    """Where the mask pattern makes of a row something else than it was asked for."""
    group = getattr(recipe.mask_pattern, "group", 1)
    if group == 1:
        return []
    return [f"as drawn; the mask pattern then makes {group} rows of each, with rates of its own"]
