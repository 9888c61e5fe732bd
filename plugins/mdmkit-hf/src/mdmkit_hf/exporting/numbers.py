"""The numbers that a run keeps of itself, each with its error and of which weights it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import DataError

_NELBO = "val/nelbo_per_token"


@frozen(kw_only=True)
class Number:
    """A measured number.

    Attributes:
        label: of what measured it.
        name: of the number.
        value, stderr: with its standard error.
        unit: of both.
        of: the weights that it is of: step, and whether averaged.
    """

    label: str
    name: str
    value: float
    stderr: float
    unit: str
    of: str


@frozen(kw_only=True)
class Measured:
    """What one evaluation found.

    Attributes:
        label: of it.
        numbers: its numbers.
        provenance: what was measured on what.
    """

    label: str
    numbers: tuple[Number, ...]
    provenance: Mapping[str, Any]


def measured(directory: Path) -> list[Measured]:
    """What the files ``eval/*.json`` of a run say, those of suites set by set.

    Raises:
        DataError: where one cannot be read.
    """
    found = []
    for path in sorted((directory / "eval").glob("*.json")):
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            found += [_measured(label, entry) for label, entry in _entries(path.stem, plain)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: is not what an evaluation wrote ({type(error).__name__}: {error}); move "
                "it away, and evaluate anew"
            ) from error
    return found


def _entries(stem: str, plain: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "sets" not in plain:
        yield plain["label"], plain
        return
    for label, entry in plain["sets"].items():
        yield f"{stem}: {label}", entry


def _measured(label: str, plain: Mapping[str, Any]) -> Measured:
    provenance = plain["provenance"]
    weights = provenance.get("checkpoint", {})
    of = _weights(weights.get("step"), weights.get("ema")) if weights else "not said"
    numbers = (
        Number(
            label=label,
            name=name,
            value=float(number["value"]),
            stderr=float(number["stderr"]),
            unit=number.get("unit", ""),
            of=of,
        )
        for name, number in plain["measurements"].items()
    )
    return Measured(label=label, numbers=tuple(numbers), provenance=provenance)


def last_validation(directory: Path, step: int) -> Number | None:
    """The validation of a run at `step`, or None where there was none."""
    path = directory / "metrics.jsonl"
    if not path.is_file():
        return None
    found = None
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            metrics = json.loads(line)
        except ValueError:  # a last line that a crash has torn
            continue
        if metrics.get("step") == step and _NELBO in metrics:
            found = metrics
    if found is None:
        return None
    return Number(
        label="validation",
        name="nelbo_per_token",
        value=found[_NELBO],
        stderr=found[f"{_NELBO}_stderr"],
        unit="nats/token",
        of=f"step {step}, averaged where the run keeps an average",
    )


def _weights(step: object, ema: object) -> str:
    return f"step {step}, {'averaged' if ema else 'raw'}"


def weights_of(step: int, ema: bool) -> str:
    """The words for the weights of a step, as in `Number.of`."""
    return _weights(step, ema)
