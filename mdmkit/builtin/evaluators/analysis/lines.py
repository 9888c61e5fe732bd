"""Lines that several analyses draw alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mdmkit.values import Line

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result


def line_by_step(results: Mapping[int, Result], measurement: str, name: str) -> Line | None:
    """A measurement by the step of its checkpoint; None where no result has it.

    Args:
        results: by step.
        measurement: its name.
        name: that of the line.
    """
    there = {
        step: result.measurements[measurement]
        for step, result in sorted(results.items())
        if measurement in result.measurements
    }
    if not there:
        return None
    return Line(
        name=name,
        x=tuple(float(step) for step in there),
        y=tuple(number.value for number in there.values()),
        stderr=tuple(number.stderr for number in there.values()),
    )
