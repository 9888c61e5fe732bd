"""``metrics.jsonl``: one flat JSON object a line, appended as it happens, cut on resume."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mdmkit.errors import CheckpointError
from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.plain_files import MIB, parse_json, read_bytes
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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, without a torn last one.

    Raises:
        CheckpointError: where any other line is no JSON object.
        OSError: where the file cannot be read.
    """
    entries: list[dict[str, Any]] = []
    lines = _content(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)  # what follows the last newline: nothing, or a torn line
        if last or not line:
            continue
        try:
            entry = parse_json(line)
        except ValueError:  # no JSON, or no UTF-8
            entry = None
        if isinstance(entry, dict) and _is_flat(entry):
            entries.append(entry)
        elif number < len(lines) - 1:
            raise CheckpointError(
                f"{path}: line {number} is {line[:40]!r}, not a JSON object of numbers; the file "
                "was changed by something else (remove that line, or move the file away)"
            )
    return entries


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, LARGEST)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


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
