"""Time samplers: where on the way from clean to masked to train."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.time_samplers.beta import Beta
from mdmkit.builtin.time_samplers.closed_form import Bell, LogitNormal, Uniform, Window
from mdmkit.builtin.time_samplers.information_rate import InformationRate
from mdmkit.hookspecs import hookimpl

__all__ = [
    "Bell",
    "Beta",
    "InformationRate",
    "LogitNormal",
    "Uniform",
    "Window",
    "mdmkit_time_samplers",
]


@hookimpl
def mdmkit_time_samplers() -> Mapping[str, type]:
    """The time samplers of this package."""
    return {
        "bell": Bell,
        "beta": Beta,
        "information_rate": InformationRate,
        "logit_normal": LogitNormal,
        "uniform": Uniform,
        "window": Window,
    }
