"""Time samplers: where on the way from clean to masked to train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit.builtin.time_samplers.beta import Beta
from mdmkit.builtin.time_samplers.blends import Annealed, Mixture
from mdmkit.builtin.time_samplers.closed_form import Bell, LogitNormal, Uniform, Window
from mdmkit.builtin.time_samplers.information_rate import InformationRate
from mdmkit.builtin.time_samplers.variance import Clipped, LossAdaptive
from mdmkit.hookspecs import hookimpl

__all__ = [
    "Annealed",
    "Bell",
    "Beta",
    "Clipped",
    "InformationRate",
    "LogitNormal",
    "LossAdaptive",
    "Mixture",
    "Uniform",
    "Window",
    "mdmkit_time_samplers",
]


@hookimpl
def mdmkit_time_samplers() -> Mapping[str, type]:
    """The time samplers of this package."""
    return {
        "uniform": Uniform,
        "bell": Bell,
        "beta": Beta,
        "logit_normal": LogitNormal,
        "window": Window,
        "information_rate": InformationRate,
        "loss_adaptive": LossAdaptive,
        "clipped": Clipped,
        "mixture": Mixture,
        "annealed": Annealed,
    }


def contract_examples(directory: Path) -> Iterator[Any]:  # noqa: ARG001 - it needs no files
    """What `mdmkit.testing` tries of those that are made of others."""
    yield Mixture(first=Bell(), second=Uniform(), share=0.2)
    learning: Any = (InformationRate(), LossAdaptive())  # options of samplers, live when built
    yield Mixture(first=learning[0], second=learning[1])
    yield Annealed(start=Bell(width=0.1), end=Uniform())
