"""A run that goes on in another process, looked at again and again."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.metrics_log import METRICS
from mdmkit.runs.checkpoints import checkpoints_dir, step_name
from mdmkit.runs.health import Surroundings, findings
from mdmkit.runs.history import History
from mdmkit.runs.status import RunStatus, glance
from mdmkit.runs.tail import Tail
from mdmkit.samples_log import LoggedSamples, read_samples, sampled_steps


@frozen(kw_only=True)
class View:
    """A run at one moment: all that is shown of it.

    Attributes:
        status: what became of it so far.
        history: its figures.
        findings: what is odd, in words.
        samples: the newest texts it generated, or None.
        new: the lines of metrics that have come since the look before.
    """

    status: RunStatus
    history: History
    findings: tuple[str, ...] = ()
    samples: LoggedSamples | None = None
    new: tuple[dict[str, float | int | None], ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of itself."""
        return self.status.state != "running"

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, or None where that cannot be told."""
        status, each = self.status, self.history.seconds_per_step
        if each is None or status.steps is None or status.step is None or self.over:
            return None
        return each * (status.steps - status.step)


class Follower:
    """Looks at a run directory; opens for reading alone, holds no lock, writes nothing."""

    def __init__(self, directory: Path) -> None:
        """Follow the run in `directory`."""
        self._directory = directory
        self._tail = Tail(directory / METRICS)
        self._history = History()
        self._samples: LoggedSamples | None = None
        self._odd_samples: str | None = None

    def __enter__(self) -> Self:
        """Nothing is opened before the first look."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the metrics."""
        self._tail.close()

    def look(self, now: float) -> View:
        """The run as it is.

        Args:
            now: seconds since 1970.
        """
        # The state first: what is written before a run ends is then seen before its end is.
        before = glance(self._directory)
        problem = None
        try:
            news = self._tail.look()
        except OSError as error:
            new, problem = [], f"{METRICS}: cannot be read ({error})"
        else:
            if news.anew:
                self._history = History()
            new = self._history.add(news.lines)
        history = self._history
        status = before.with_metrics(history.reached, history.best, problem)
        self._read_samples()
        found = findings(history, status, self._around(status, now))
        if self._odd_samples is not None:
            found.append(self._odd_samples)
        return View(
            status=status,
            history=history,
            findings=tuple(found),
            samples=self._samples,
            new=tuple(new),
        )

    def _read_samples(self) -> None:
        """Read the newest samples, unless they are known."""
        step = max(sampled_steps(self._directory), default=None)
        if step is None or (self._samples is not None and self._samples.step == step):
            return
        try:
            self._samples, self._odd_samples = read_samples(self._directory, step), None
        except CheckpointError as error:
            self._samples, self._odd_samples = None, str(error)

    def _around(self, status: RunStatus, now: float) -> Surroundings:
        try:
            silence = max(now - (self._directory / METRICS).stat().st_mtime, 0.0)
            free = shutil.disk_usage(self._directory).free
            size = 0
            if status.saved is not None:
                path = checkpoints_dir(self._directory) / step_name(status.saved)
                size = sum(file.stat().st_size for file in path.iterdir())
        except OSError:  # the run has no metrics yet, or is being cleaned
            return Surroundings()
        return Surroundings(silence=silence, free=free, checkpoint=size)
