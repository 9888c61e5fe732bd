"""What a run says while it goes on: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from mdmkit.report.numbers import duration, rate, with_error
from mdmkit.report.tables import print_summary
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.generate import Sample

__all__ = ["Reporter", "RunReporter", "quiet"]

SECONDS_BETWEEN_LINES = 10.0


class Reporter(Protocol):
    """Whom a run tells what happens."""

    def notify(self, text: str) -> None:
        """Say something once."""

    def start(self, *, total: int, done: int) -> None:
        """Training begins, or goes on at step `done` of `total`."""

    def step(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        """So many steps are done; loss in the objective's unit, over the last few steps."""

    def validation(self, step: int, measurement: Measurement) -> None:
        """The NELBO per token on the validation split, after `step` steps."""

    def summary(
        self, directory: Path, results: Mapping[str, Result], samples: Sequence[Sample]
    ) -> None:
        """The run has ended well."""

    def close(self) -> None:
        """Training ends, well or not."""


class Quiet:
    """A `Reporter` that says nothing."""

    def notify(self, text: str) -> None:
        """Nothing."""

    def start(self, *, total: int, done: int) -> None:
        """Nothing."""

    def step(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        """Nothing."""

    def validation(self, step: int, measurement: Measurement) -> None:
        """Nothing."""

    def summary(
        self, directory: Path, results: Mapping[str, Result], samples: Sequence[Sample]
    ) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def quiet() -> Reporter:
    """A reporter that says nothing."""
    return Quiet()


class RunReporter:
    """A `Reporter` on a console.

    On a terminal it keeps a progress bar at the bottom and prints messages above it. Elsewhere
    it prints plain lines, at most one of progress in ten seconds, and the last.
    """

    def __init__(
        self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Report to `console`; standard output by default.

        Args:
            console: where to; ``console.is_terminal`` decides between bar and lines.
            clock: seconds, rising.
        """
        self._console = console or Console()
        self._clock = clock
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._first_step = 0
        self._started = self._last_line = 0.0

    def notify(self, text: str) -> None:
        """Print `text` as it is."""
        self._console.print(Text(text), soft_wrap=True)

    def start(self, *, total: int, done: int) -> None:
        """Begin the bar."""
        self.close()
        self._total, self._first_step = total, done
        self._started = self._last_line = self._clock()
        if self._console.is_terminal:
            self._bar = _progress_bar(self._console)
            self._task = self._bar.add_task(
                "", total=total, completed=done, loss="-", speed="-", validation="-"
            )
            self._bar.start()

    def step(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        """Move the bar, or print a line if it is time for one."""
        speed = rate(tokens_per_second)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=f"{loss:.4f}", speed=speed)
            return
        now = self._clock()
        if step < self._total and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        done = step - self._first_step
        left = (now - self._started) * (self._total - step) / done if done else 0.0
        self.notify(
            f"step {step}/{self._total}  loss {loss:.4f}  {speed} tokens/s  ETA {duration(left)}"
        )

    def validation(self, step: int, measurement: Measurement) -> None:
        """Print the number, and keep it beside the bar."""
        self.notify(
            f"step {step}/{self._total}  validation NELBO {with_error(measurement)} nats/token"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, validation=f"{measurement.value:.4f}")

    def summary(
        self, directory: Path, results: Mapping[str, Result], samples: Sequence[Sample]
    ) -> None:
        """Print numbers, samples, the run directory and what to type next."""
        self.close()
        print_summary(self._console, directory=directory, results=results, samples=samples)

    def close(self) -> None:
        """End the bar and leave it as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _progress_bar(console: Console) -> Progress:
    """Short words: all of it has room in 80 columns up to a million steps."""
    return Progress(
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TextColumn("val {task.fields[validation]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=False,
        redirect_stderr=False,
    )
