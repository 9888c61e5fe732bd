"""Metrics as TensorBoard events. Importing this module needs the package ``tensorboard``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.values import Metrics

RECIPE = "recipe"


class TensorBoardLog:
    """A folder of event files, as `mdmkit.protocols.Tracking`.

    A line is written to its file as soon as it is logged.
    """

    def __init__(self, folder: Path, recipe: str) -> None:
        """Log to `folder`, which is made where it is not there.

        Args:
            folder: for event files; those that are in it are continued.
            recipe: the text of the recipe, which is logged once.
        """
        self._folder = folder
        self._recipe = recipe
        self._writer: SummaryWriter | None = None

    def resume(self, step: int) -> None:
        """Forget every event past `step`, and log the recipe where it is not yet.

        The event files are written anew without these events, so that every reader is spared
        them; a TensorBoard that has read them already is told by a session that starts there.

        Raises:
            CheckpointError: where a file cannot be written.
        """
        self.close()
        with explained(self._folder, GO_ON):
            self._folder.mkdir(parents=True, exist_ok=True)
            if forget_after(self._folder, step):
                self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)
            if not any(_holds_recipe(event) for event in _events(self._folder)):
                self._open().add_text(RECIPE, f"```toml\n{self._recipe}\n```", 0)
            if self._writer is not None:
                self._writer.flush()

    def log(self, metrics: Metrics) -> None:
        """Write a line of metrics, each figure as a scalar; what is not finite is left out.

        Raises:
            CheckpointError: where the file cannot be written.
        """
        with explained(self._folder, GO_ON):
            writer = self._open()
            for name, value in metrics.items():
                if name != "step" and math.isfinite(value):
                    writer.add_scalar(name, value, int(metrics["step"]))
            writer.flush()

    def close(self) -> None:
        """Close the file; a later `log` begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder))
        return self._writer


def forget_after(folder: Path, step: int) -> bool:
    """Write the event files of `folder` anew without the events past `step`.

    Returns:
        Whether there were any. A file of which nothing is left is removed.

    Raises:
        OSError: where a file cannot be written; it is then left as it was.
    """
    for torn in folder.glob(".tmp-*"):  # of a process that was killed while it did this
        torn.unlink()
    found = False
    for path in _files(folder):
        records = list(RawEventFileLoader(str(path)).Load())
        events = [Event.FromString(record) for record in records]
        kept = [record for record, event in zip(records, events, strict=True) if event.step <= step]
        if len(kept) == len(records):
            continue
        found = True
        if all(Event.FromString(record).HasField("file_version") for record in kept):
            path.unlink()
        else:
            write_atomic(path, _as_file(kept))
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*tfevents*"))


def _events(folder: Path) -> Iterator[Event]:
    for path in _files(folder):
        for record in RawEventFileLoader(str(path)).Load():
            yield Event.FromString(record)


def _holds_recipe(event: Event) -> bool:
    return any(value.tag.split("/")[0] == RECIPE for value in event.summary.value)


def _as_file(records: list[bytes]) -> bytes:
    content = BytesIO()
    writer = RecordWriter(content)
    for record in records:
        writer.write(record)
    return content.getvalue()
