"""The figures of a run so far, line by line out of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field, frozen

from mdmkit.runs.status import NELBO, NELBO_STDERR, Best, better, read_line

_ABOUT_SPEED = 50
"""Lines by which the time of a step is judged; at least half of all are taken."""


@frozen(kw_only=True)
class Validation:
    """A validation: the NELBO in nats per token."""

    step: int
    value: float
    stderr: float


@frozen(kw_only=True)
class Window:
    """A line of training figures; None where a figure was not finite, or is not there."""

    step: int
    seconds: float
    loss: float | None
    grad_norm: float | None
    clipped: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    nonfinite_steps: int


@define(kw_only=True)
class History:
    """What the lines of a run's metrics come to.

    Attributes:
        windows: the training figures, by step.
        validations: by step.
        reached: the last step of any line, or None.
        longest: the longest time between two lines, in seconds.
        best: of the validations.
        damaged: how many lines are none.
    """

    windows: list[Window] = field(factory=list)
    validations: list[Validation] = field(factory=list)
    reached: int | None = None
    longest: float = 0.0
    best: Best | None = None
    damaged: int = 0
    _seconds: float = 0.0

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> History:
        """The history that `lines` tell."""
        history = cls()
        history.add(lines)
        return history

    def add(self, lines: Iterable[bytes]) -> list[dict[str, float | int | None]]:
        """Take further lines, and give back those that are lines of metrics."""
        entries = []
        for line in filter(None, lines):
            entry = read_line(line)
            if entry is None:
                self.damaged += 1
            else:
                self._take(entry)
                entries.append(entry)
        return entries

    @property
    def seconds_per_step(self) -> float | None:
        """Of the later half of the training, validations included; None where too little is known.

        Interruptions do not count: the seconds of a run leave them out.
        """
        first = max(0, min(len(self.windows) // 2, len(self.windows) - _ABOUT_SPEED))
        lines = self.windows[first:]
        if len(lines) < 2 or lines[-1].step <= lines[0].step:
            return None
        return (lines[-1].seconds - lines[0].seconds) / (lines[-1].step - lines[0].step)

    def _take(self, entry: Mapping[str, float | int | None]) -> None:
        step, seconds = int(entry["step"] or 0), float(entry.get("seconds") or 0.0)
        if self.reached is not None:
            self.longest = max(self.longest, seconds - self._seconds)
        self.reached, self._seconds = step, seconds
        self.best = better(self.best, entry)
        value = entry.get(NELBO)
        if value is not None:
            stderr = float(entry.get(NELBO_STDERR) or 0.0)
            self.validations.append(Validation(step=step, value=float(value), stderr=stderr))
        if "train/nonfinite_steps" in entry:
            self.windows.append(
                Window(
                    step=step,
                    seconds=seconds,
                    loss=entry.get("train/loss"),
                    grad_norm=entry.get("train/grad_norm"),
                    clipped=entry.get("train/clipped_share"),
                    learning_rate=entry.get("train/learning_rate"),
                    tokens_per_second=entry.get("train/tokens_per_second"),
                    nonfinite_steps=int(entry["train/nonfinite_steps"] or 0),
                )
            )
