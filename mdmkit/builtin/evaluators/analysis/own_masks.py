"""The masks that a run draws: those of its objective, where that draws them from the recipe."""

from __future__ import annotations

from collections.abc import Sequence

from mdmkit.builtin.objectives import MaskedDiffusion, MixedCausal
from mdmkit.builtin.objectives.mixed_causal import LiveMixedCausal
from mdmkit.protocols import Objective, ObjectiveOptions


def own_masks(options: ObjectiveOptions | None) -> MaskedDiffusion | None:
    """The masked diffusion that an objective draws masks like; None where it draws others.

    Of an objective that mixes in causal rows it is that of the masked rows. How others draw masks
    (from a pool, or by what the network says) no recipe tells.
    """
    if isinstance(options, MixedCausal):
        return MaskedDiffusion(stratification=options.stratification)
    return options if isinstance(options, MaskedDiffusion) else None


def own_masks_of(objective: Objective) -> MaskedDiffusion | None:
    """The same of a live objective."""
    return own_masks(getattr(objective, "options", None))


def causal_shares(objective: Objective, steps: Sequence[int]) -> dict[str, float]:
    """The share of the rows that has no masks at each step; none where all have."""
    if not isinstance(objective, LiveMixedCausal):
        return {}
    return {str(step): objective.share(step) for step in steps}
