"""What `mdmkit analyze` finds, as files: one for each analysis, with its results by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from mdmkit.data.cache import Notify
from mdmkit.errors import CheckpointError
from mdmkit.evaluation.driver import Result
from mdmkit.files import explained, write_json
from mdmkit.plain_files import read_json
from mdmkit.values import HeatMap, Picture, picture_from_json

_SAME = ("evaluator", "run", "recipe", "seed", "precision", "tokenizer_fingerprint")
"""What results of one analysis must agree in, to stand in one file."""


@frozen(kw_only=True)
class Analysis:
    """What an analysis found.

    Attributes:
        label: its name.
        steps: the results by the optimizer step behind the weights, rising; 0 for what is about no
            weights, a text or a recipe.
        over_training: pictures of the way between them.
    """

    label: str
    steps: Mapping[int, Result]
    over_training: Mapping[str, Picture | HeatMap] = field(factory=dict)

    @property
    def last(self) -> Result:
        """The result of the last step."""
        return self.steps[max(self.steps)]

    def pictures(self) -> Iterator[tuple[str, Picture | HeatMap]]:
        """Those of the last step, and those over training, each with its name."""
        yield from self.last.pictures.items()
        yield from ((f"{name}_over_training", drawn) for name, drawn in self.over_training.items())

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "label": self.label,
            "steps": {str(step): result.to_json() for step, result in self.steps.items()},
            "over_training": {name: p.to_json() for name, p in self.over_training.items()},
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Analysis:
        """What `to_json` made; ValueError, LookupError or TypeError where it is something else."""
        steps = {int(step): Result.from_json(result) for step, result in plain["steps"].items()}
        if not steps:
            raise ValueError("there is no result")
        return cls(
            label=str(plain["label"]),
            steps={step: steps[step] for step in sorted(steps)},
            over_training={n: picture_from_json(p) for n, p in plain["over_training"].items()},
        )


def read_analysis(path: Path) -> Analysis:
    """An analysis that was kept.

    Raises:
        CheckpointError: where the file is missing or damaged.
    """
    try:
        return Analysis.from_json(read_json(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); remove it, and analyze again"
        ) from error


def write_analysis(folder: Path, analysis: Analysis, notify: Notify) -> None:
    """Keep an analysis as ``<label>.json``, replacing an earlier one.

    Raises:
        CheckpointError: where it cannot be written.
    """
    path = folder / f"{analysis.label}.json"
    verb = "replaced" if path.exists() else "written"
    with explained(path, "make room, and analyze again"):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, analysis.to_json())
    notify(f"{path}: {verb}")


def kept_results(path: Path, result: Result, step: int) -> dict[int, Result]:
    """The results of other steps in the file that were measured like this one.

    Args:
        path: an analysis, or nothing.
        result: the one that joins them.
        step: its step.
    """
    try:
        earlier = read_analysis(path)
    except CheckpointError:  # it is replaced
        return {}
    return {
        other: kept
        for other, kept in earlier.steps.items()
        if other != step and _circumstances(kept) == _circumstances(result)
    }


def _circumstances(result: Result) -> list[Any]:
    ema = result.provenance.get("checkpoint", {}).get("ema")
    return [*(result.provenance.get(key) for key in _SAME), ema]
