"""A tracker for mdmkit: figures as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import hookimpl, option
from mdmkit.protocols import RunInfo, Tracker
from mdmkit.values import Metrics

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """A file ``figures.csv`` in the run directory, a line ``step,name,value`` a figure."""

    only: str = option("", doc='only figures whose name begins with this, such as "val/"')

    def build(self, run: RunInfo) -> LiveExample:
        """The live tracker."""
        return LiveExample(options=self, path=run.directory / "figures.csv")


@frozen(kw_only=True)
class LiveExample:
    """`Example` in a run."""

    options: Example
    path: Path

    def resume(self, step: int) -> None:
        """Forget the lines past `step`, and one that was not written to its end."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        kept = [line for line in whole if int(line.partition(",")[0]) <= step]
        self.path.write_text("".join(kept))

    def log(self, metrics: Metrics) -> None:
        """Append the figures of one step."""
        with self.path.open("a") as file:
            for name, value in metrics.items():
                if name.startswith(self.options.only):
                    file.write(f"{metrics['step']},{name},{value}\n")

    def close(self) -> None:
        """Nothing is left open."""


@hookimpl
def mdmkit_trackers() -> Mapping[str, type[Tracker]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[tuple[Example, Mapping[str, Any]]]:
    """What the contract checks try, and how they read back what was kept."""
    yield Example(), {"read": _lines}


def _lines(directory: Path) -> list[dict[str, float]]:
    """The figures of each step."""
    lines: dict[str, dict[str, float]] = {}
    for line in (directory / "figures.csv").read_text().splitlines():
        step, name, value = line.split(",")
        lines.setdefault(step, {})[name] = float(value)
    return list(lines.values())
