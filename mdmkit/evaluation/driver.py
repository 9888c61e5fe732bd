"""Runs an evaluator, and refuses numbers without errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import asdict, field, frozen

from mdmkit.errors import PluginError
from mdmkit.protocols import Evaluation, EvaluationContext, Evaluator
from mdmkit.values import HeatMap, Measurement, Picture, picture_from_json

Progress = Callable[[int, int], object]
"""Called with (done, total)."""


@frozen(kw_only=True)
class Result:
    """What an evaluator found.

    Attributes:
        label: the evaluator's name in the recipe, as in ``[evaluators.<label>]``.
        measurements: by name, each with its standard error.
        provenance: what was measured on what, as plain JSON.
        pictures: what is more than a few numbers, by name.
        pictures_failed: why they could not be made, or nothing.
    """

    label: str
    measurements: Mapping[str, Measurement]
    provenance: Mapping[str, Any]
    pictures: Mapping[str, Picture | HeatMap] = field(factory=dict)
    pictures_failed: str = ""

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON; without pictures there is no word of them."""
        drawn = {name: picture.to_json() for name, picture in self.pictures.items()}
        return {
            "label": self.label,
            "measurements": {
                name: asdict(number, filter=lambda _, value: value is not None)
                for name, number in self.measurements.items()
            },
            "provenance": dict(self.provenance),
            **({"pictures": drawn} if drawn else {}),
            **({"pictures_failed": self.pictures_failed} if self.pictures_failed else {}),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Result:
        """What `to_json` made; ValueError, LookupError or TypeError where it is something else."""
        measurements = {n: Measurement(**number) for n, number in plain["measurements"].items()}
        for number in measurements.values():
            figures = (number.value, number.stderr, number.draws_stderr or 0.0)
            if not all(type(figure) in (int, float) for figure in figures):
                raise TypeError("a measurement is no number")
        if not isinstance(plain["provenance"], dict):
            raise TypeError("provenance is no table")
        pictures = {n: picture_from_json(drawn) for n, drawn in plain.get("pictures", {}).items()}
        return cls(
            label=str(plain["label"]),
            measurements=measurements,
            provenance=plain["provenance"],
            pictures=pictures,
            pictures_failed=str(plain.get("pictures_failed", "")),
        )


def run_evaluation(
    evaluator: Evaluator,
    context: EvaluationContext,
    *,
    label: str = "",
    progress: Progress | None = None,
) -> Result:
    """Do all the work of an evaluator. With several ranks, every rank calls this.

    Args:
        evaluator: its options.
        context: what it may use.
        label: its name in the recipe, for messages.
        progress: called as ``progress(done, total)`` before the first and after each update.

    Raises:
        PluginError: where it gives no number, a number without a finite error, or a provenance
            that is not plain JSON.
    """
    return measure(evaluator.build(context), label=label, progress=progress)


def measure(evaluation: Evaluation, *, label: str, progress: Progress | None = None) -> Result:
    """`run_evaluation` for an evaluator that is live already."""
    index = 0
    while index < len(evaluation):  # asked anew each time, since it may grow
        if progress is not None:
            progress(index, len(evaluation))
        evaluation.update(index)
        index += 1
    if progress is not None:
        progress(index, index)
    measurements = dict(evaluation.compute())
    name = f'evaluator "{label or type(evaluation).__name__}"'
    _require_errors(name, measurements)
    pictures, failed = pictures_of(getattr(evaluation, "pictures", dict))
    return Result(
        label=label,
        measurements=measurements,
        provenance=_plain(name, evaluation.provenance),
        pictures=pictures,
        pictures_failed=failed,
    )


def pictures_of(
    draw: Callable[[], Mapping[str, Picture | HeatMap]],
) -> tuple[dict[str, Picture | HeatMap], str]:
    """What `draw`, a plugin's function, gives; where it fails, nothing, and the reason in words.

    Numbers that took hours must not be lost for a picture.
    """
    try:
        found: dict[Any, Any] = dict(draw())
    except Exception as error:  # whatever a plugin's code may raise
        return {}, f"its pictures cannot be made: {type(error).__name__}: {error}"
    for key, picture in found.items():
        if not (isinstance(key, str) and isinstance(picture, Picture | HeatMap)):
            return {}, (
                f"pictures() gives {key!r}: {type(picture).__name__}; expected names and "
                "mdmkit.values.Picture or HeatMap"
            )
    return found, ""


def _require_errors(name: str, measurements: Mapping[str, Any]) -> None:
    if not measurements:
        raise PluginError(f"{name}: compute() returned no numbers; expected at least one")
    for key, number in measurements.items():
        if not isinstance(number, Measurement):
            raise PluginError(
                f"{name}: {key} is {number!r}; expected a Measurement(value=..., stderr=...)"
            )
        if not math.isfinite(number.value):
            raise PluginError(f"{name}: {key} is {number.value}; expected a finite number")
        if not (math.isfinite(number.stderr) and number.stderr >= 0):
            raise PluginError(
                f"{name}: the standard error of {key} is {number.stderr}; expected a finite "
                "number >= 0 (0 only for what is known exactly)"
            )


def _plain(name: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(provenance), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise PluginError(f"{name}: its provenance is not plain JSON: {error}") from error
