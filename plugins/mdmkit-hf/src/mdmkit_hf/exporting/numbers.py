"""The numbers that a run keeps of itself, each with its error and of which weights it is."""

from __future__ import annotations

import contextlib
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
    of = weights_of(weights.get("step"), weights.get("ema")) if weights else "not said"
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


def last_validation(directory: Path, step: int, *, ema: bool) -> Measured | None:
    """The validation of a run at `step`, or None where there was none.

    Args:
        directory: of the run.
        step: of the weights.
        ema: whether the run keeps an average, which is what is validated then.
    """
    path = directory / "metrics.jsonl"
    if not path.is_file():
        return None
    found = None
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # of a last line that a crash has torn
            metrics = json.loads(line)
            found = metrics if metrics.get("step") == step and _NELBO in metrics else found
    if found is None:
        return None
    number = Number(
        label="validation",
        name="nelbo_per_token",
        value=found[_NELBO],
        stderr=found[f"{_NELBO}_stderr"],
        unit="nats/token",
        of=weights_of(step, ema),
    )
    kept = directory / "validation" / f"step-{step:08d}.safetensors"
    return Measured(label="validation", numbers=(number,), provenance=_kept_with(kept))


def _kept_with(path: Path) -> Mapping[str, Any]:
    """The provenance in a validation's own file; empty without the file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            found: Mapping[str, Any] = json.loads((file.metadata() or {})["provenance"])
            return found
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); move it away: the card then goes without"
        ) from error


def weights_of(step: object, ema: object) -> str:
    """The words for the weights of a step."""
    return f"step {step}, {'averaged' if ema else 'raw'}"
