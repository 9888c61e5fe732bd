"""Trackers: where metrics go besides ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from attrs import frozen

from mdmkit.errors import RecipeError
from mdmkit.hookspecs import hookimpl
from mdmkit.metrics_log import MetricsLog, read_metrics
from mdmkit.options import option
from mdmkit.protocols import RunInfo


@frozen(kw_only=True)
class Jsonl:
    """A second file of metrics in the run directory, one JSON object a line."""

    file: str = option("extra.jsonl", doc="path inside the run directory, ending in .jsonl")

    def build(self, run: RunInfo) -> MetricsLog:
        """The live tracker; missing folders are made.

        Raises:
            RecipeError: for ``metrics.jsonl``, which is written anyway, and for paths that lead
                out of the run directory or do not end in ``.jsonl``.
        """
        path = PurePath(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".jsonl":
            raise RecipeError(
                f'tracker "jsonl", file: expected a path inside the run directory that ends in '
                f'.jsonl, got "{self.file}"'
            )
        if path == PurePath("metrics.jsonl"):
            raise RecipeError(
                'tracker "jsonl", file: "metrics.jsonl" is always written by the run itself; '
                'choose another name, such as "extra.jsonl"'
            )
        target = run.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return MetricsLog(target)


@hookimpl
def mdmkit_trackers() -> Mapping[str, type]:
    """The trackers of this module."""
    return {"jsonl": Jsonl}


def contract_examples(directory: Path) -> Iterator[tuple[Jsonl, dict[str, Any]]]:  # noqa: ARG001
    """What `mdmkit.testing` tries, and how it reads back what was tracked."""
    file = "deeper/extra.jsonl"
    yield Jsonl(file=file), {"read": lambda run: read_metrics(run / file)}
