"""Times between marks, taken without making anybody wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen


@frozen
class Interval:
    """From one mark to the next.

    Attributes:
        name: of the mark that it begins with.
        seconds: how long it was.
    """

    name: str
    seconds: float


class Stopwatch:
    """Marks on the time line of a device.

    On a CPU a mark is the clock's time. On a GPU it is an event in the current stream: the host
    does not wait for it, so marking changes nothing, and the time between two of them is when the
    device got from the one to the other, whether it computed or waited for the host.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Start without marks; `clock` gives seconds and is asked on a CPU alone."""
        self._device = device
        self._clock = clock
        self._marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """What `name` stands for begins now."""
        self._marks.append((name, self._moment()))

    def intervals(self) -> list[Interval]:
        """From each mark to the next, in order; on a GPU this waits for the last mark."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            between = [a.elapsed_time(b) / 1e3 for (_, a), (_, b) in self._pairs()]
        else:
            between = [b - a for (_, a), (_, b) in self._pairs()]
        names = [name for name, _ in self._marks]
        return [Interval(name, seconds) for name, seconds in zip(names, between, strict=False)]

    def _pairs(self) -> zip[tuple[tuple[str, Any], tuple[str, Any]]]:
        return zip(self._marks, self._marks[1:], strict=False)

    def _moment(self) -> Any:
        if self._device.type != "cuda":
            return self._clock()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
