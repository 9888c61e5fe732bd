"""``metrics.jsonl``: one flat JSON object a line, appended as it happens, cut on resume."""

from __future__ import annotations

import json
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from attrs import field, frozen

from mdmkit.errors import CheckpointError
from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.plain_files import MIB, parse_json, read_lines
from mdmkit.values import Metrics

METRICS = "metrics.jsonl"
"""The file that every run has."""

LARGEST = 4096 * MIB
"""Bytes; some ten million lines."""


class MetricsLog:
    """An append-only log of metrics, as `mdmkit.protocols.Tracking`.

    A line is handed to the operating system as soon as it is logged, so a process that is killed
    loses no line; one torn by a crash of the machine is dropped on resume.
    """

    def __init__(self, path: Path) -> None:
        """Log to `path`; its directory must exist. An old file there is continued."""
        self._path = path
        self._file: BinaryIO | None = None

    def resume(self, step: int) -> None:
        """Drop a torn last line and the lines whose ``step`` is past `step`.

        Raises:
            CheckpointError: where a line that is not the last is no JSON object, or the file
                cannot be written.
        """
        self.close()
        if not self._path.exists():
            return
        kept = "".join(_line(entry) for entry in read_metrics(self._path) if entry["step"] <= step)
        if kept.encode() != self._path.read_bytes():
            with explained(self._path, GO_ON):
                write_atomic(self._path, kept)

    def log(self, metrics: Metrics) -> None:
        """Append a line; a figure that is not finite becomes ``null``, for JSON has no NaN.

        Raises:
            TypeError: where a value is no number, or there is no ``step``.
            CheckpointError: where the file cannot be written.
        """
        line = _line(_flat(metrics))
        with explained(self._path, GO_ON):
            if self._file is None:
                # Unbuffered: what cannot be written must not be tried again when it is closed.
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line.encode())

    def close(self) -> None:
        """Close the file; a later `log` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


@frozen(eq=False)
class Column:
    """A figure, at the lines that have it, in their order.

    Attributes:
        steps: of these lines.
        values: as many.
    """

    steps: array[int] = field(factory=lambda: array("q"))
    values: array[float] = field(factory=lambda: array("d"))


@frozen(eq=False)
class MetricColumns:
    """The lines of a metrics file by name, in a fraction of the room that the lines take.

    Attributes:
        last: the largest step of any line; 0 without lines.
        columns: by name, without ``step``; nulls are left out.
    """

    last: int
    columns: Mapping[str, Column]

    def __getitem__(self, name: str) -> Column:
        """The figure of that name; one that was never logged is empty."""
        return self.columns.get(name) or Column()


def read_columns(path: Path, damaged: Callable[[str], object] | None = None) -> MetricColumns:
    """The lines of a metrics file, as columns.

    Args:
        path: of the file.
        damaged: is told of each line that cannot be read, which is then left out.

    Raises:
        CheckpointError, OSError: as `read_metrics` does; no line makes it fail with `damaged`.
    """
    last, columns = 0, defaultdict[str, Column](Column)
    for entry in _entries(path, damaged):
        step = entry.pop("step")
        last = max(last, step)
        for name, value in entry.items():
            if value is not None:
                column = columns[name]
                column.steps.append(step)
                column.values.append(value)
    return MetricColumns(last, dict(columns))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, without a torn last one.

    Raises:
        CheckpointError: where any other line is no JSON object.
        OSError: where the file cannot be read.
    """
    return list(_entries(path))


def _entries(
    path: Path, damaged: Callable[[str], object] | None = None
) -> Iterator[dict[str, Any]]:
    wrong: str | None = None
    try:
        for number, line in enumerate(read_lines(path, LARGEST), start=1):
            if not line.endswith(b"\n"):  # torn
                return
            if wrong is not None:  # a damaged line is forgiven where it is the last
                _say(f"{path}: {wrong}", damaged)
            wrong, entry = None, _entry(line)
            if entry is not None:
                yield entry
            elif line != b"\n":
                wrong = (
                    f"line {number} is {line[:-1][:40]!r}, not a JSON object of numbers; the file "
                    "was changed by something else (remove that line, or move the file away)"
                )
    except ValueError as error:  # too large
        raise CheckpointError(f"{path}: {error}") from error


def _say(problem: str, damaged: Callable[[str], object] | None) -> None:
    if damaged is None:
        raise CheckpointError(problem)
    damaged(problem)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = parse_json(line)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return entry if isinstance(entry, dict) and _is_flat(entry) else None


def _is_flat(entry: Mapping[str, Any]) -> bool:
    """Whether this is what `MetricsLog.log` writes."""
    step = entry.get("step")
    return type(step) is int and all(
        value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
        for value in entry.values()
    )


def _flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(metrics.get("step"), int):
        raise TypeError(f"a line of metrics needs a whole number 'step', got {dict(metrics)!r}")
    wrong = [name for name, value in metrics.items() if not isinstance(value, int | float)]
    if wrong:
        raise TypeError(f"metrics are numbers; {wrong[0]!r} is {metrics[wrong[0]]!r}")
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
