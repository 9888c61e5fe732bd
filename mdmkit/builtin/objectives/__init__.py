"""What is trained: masked diffusion, autoregressive baselines, and both in one network."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.objectives.any_order import AnyOrder, LiveAnyOrder
from mdmkit.builtin.objectives.autoregressive import (
    Autoregressive,
    LiveAutoregressive,
    shift_right,
)
from mdmkit.builtin.objectives.masked import LiveMaskedDiffusion, MaskedDiffusion
from mdmkit.builtin.objectives.mixed_causal import LiveMixedCausal, MixedCausal
from mdmkit.hookspecs import hookimpl

__all__ = [
    "AnyOrder",
    "Autoregressive",
    "LiveAnyOrder",
    "LiveAutoregressive",
    "LiveMaskedDiffusion",
    "LiveMixedCausal",
    "MaskedDiffusion",
    "MixedCausal",
    "mdmkit_objectives",
    "shift_right",
]


@hookimpl
def mdmkit_objectives() -> Mapping[str, type]:
    """The objectives of this package."""
    return {
        "masked_diffusion": MaskedDiffusion,
        "autoregressive": Autoregressive,
        "mixed_causal": MixedCausal,
        "any_order": AnyOrder,
    }
