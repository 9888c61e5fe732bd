"""Whether two recipes train on the same curves, and so on the same loss in expectation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from mdmkit.report.curves import Curves, curves_over_training, effective_curves

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

TOLERANCE = 1e-3
"""Of the height of the higher curve: what may be between two curves that are said to agree."""

_MASKS = ("noise_schedule", "time_sampler", "mask_pattern", "loss_weighting")
_SAME_H = ("data", "denoiser", "mask_pattern", "objective")


@frozen(kw_only=True)
class Difference:
    """The largest difference between two curves.

    Attributes:
        size: over the height of the higher of the two curves.
        mask_ratio: where it is.
        values: what the two curves are there.
    """

    size: float
    mask_ratio: float
    values: tuple[float, float]


@frozen(kw_only=True)
class Agreement:
    """How the curves compare at the same share of either training."""

    steps: tuple[int, int]
    density: Difference
    weight: Difference


@frozen(kw_only=True)
class Comparison:
    """What there is to say of two recipes.

    Attributes:
        steps: the comparison wherever either recipe's curves are worth showing.
        tolerance: of the heights; what is not above it counts as equal.
        density_equal, weight_equal: whether the curves agree at all of these steps.
        weight_factor: the factor by which the weights agree at all of these steps, or None.
        verdict: the same in words.
        notes: what the verdict leaves out.
    """

    steps: tuple[Agreement, ...]
    tolerance: float
    density_equal: bool
    weight_equal: bool
    weight_factor: float | None
    verdict: str
    notes: tuple[str, ...]


def compare_curves(one: Recipe, other: Recipe, *, tolerance: float = TOLERANCE) -> Comparison:
    """Compare the curves of two recipes.

    Recipes of different lengths are compared at the steps that are nearest to equal shares.

    Args:
        one: a recipe.
        other: another.
        tolerance: see `Comparison`.

    Raises:
        ValueError: where one has no curves; `why_no_curves` says why.
    """
    shares = {
        curves.step / max(recipe.train.steps - 1, 1)
        for recipe in (one, other)
        for curves in curves_over_training(recipe)
    }
    pairs = [
        (_at_share(one, share), _at_share(other, share)) for share in sorted({0.0, 1.0, *shares})
    ]
    if all(_same(pair, pairs[0]) for pair in pairs[1:]):
        pairs = pairs[:1]
    steps = tuple(
        Agreement(
            steps=(a.step, b.step),
            density=_difference(a.mask_ratio, a.density, b.density),
            weight=_difference(a.mask_ratio, a.weight, b.weight),
        )
        for a, b in pairs
    )
    density_equal = all(at.density.size <= tolerance for at in steps)
    weight_equal = all(at.weight.size <= tolerance for at in steps)
    factor = 1.0 if weight_equal else _common_factor(pairs, tolerance)
    return Comparison(
        steps=steps,
        tolerance=tolerance,
        density_equal=density_equal,
        weight_equal=weight_equal,
        weight_factor=factor,
        verdict=_verdict(density_equal, factor, any(c.by_count for pair in pairs for c in pair)),
        notes=tuple(_notes(one, other, pairs, factor)),
    )


def _at_share(recipe: Recipe, share: float) -> Curves:
    return effective_curves(recipe, step=round(share * (recipe.train.steps - 1)))


def _same(pair: tuple[Curves, Curves], first: tuple[Curves, Curves]) -> bool:
    return all(
        (a.density, a.weight) == (b.density, b.weight) for a, b in zip(pair, first, strict=True)
    )


def _difference(ratios: Sequence[float], a: Sequence[float], b: Sequence[float]) -> Difference:
    height = max(*a, *b, 1e-300)
    at = max(range(len(ratios)), key=lambda i: abs(a[i] - b[i]))
    return Difference(
        size=abs(a[at] - b[at]) / height, mask_ratio=ratios[at], values=(a[at], b[at])
    )


def _common_factor(pairs: Sequence[tuple[Curves, Curves]], tolerance: float) -> float | None:
    """c with weight(one) = c·weight(other) at every step, if there is one."""
    a, b = pairs[0]
    if not any(b.weight):
        return None
    factor = sum(a.weight) / sum(b.weight)
    for a, b in pairs:
        scaled = [factor * value for value in b.weight]
        if _difference(a.mask_ratio, a.weight, scaled).size > tolerance:
            return None
    return factor


def _verdict(density_equal: bool, factor: float | None, by_count: bool) -> str:
    if factor is None and by_count:
        return (
            "The weights on h differ as shown, but one depends on the number of masked tokens and "
            "is shown for the expected number: the recipes may still train on the same loss."
        )
    if factor is None:
        return "The recipes train on different losses: their weights on h differ."
    scale = "" if factor == 1 else f" up to the factor {factor:.4g}"
    if density_equal:
        return f"Both curves agree{scale}: the recipes are equal in expectation{scale}."
    return (
        f"The weights agree{scale}, the densities do not: the recipes train on the same loss in "
        f"expectation{scale}, estimated with another noise."
    )


def _notes(
    one: Recipe,
    other: Recipe,
    pairs: Sequence[tuple[Curves, Curves]],
    factor: float | None,
) -> Iterator[str]:
    """What keeps recipes of equal curves from being equal."""
    if factor is None:
        return
    if factor != 1:
        yield "a factor acts like a learning rate, which AdamW mostly undoes"
    differing = [name for name in _SAME_H if getattr(one, name) != getattr(other, name)]
    if differing:
        tables = ", ".join(f"[{name}]" for name in differing)
        yield f"this is of losses with the same h; it may be another, for they differ in {tables}"
    drawn = any(curves.by_position for pair in pairs for curves in pair)
    if drawn and any(getattr(one, name) != getattr(other, name) for name in _MASKS):
        yield (
            "a weight depends on the position of a token in its row: only its mean over masked "
            "tokens was compared"
        )
