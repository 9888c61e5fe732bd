"""Ctrl-C and SIGTERM as a request: finish the step, save, say how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_REPEATED = 5.0
"""Seconds in which another SIGTERM is the same request: a scheduler sends it to every process, and
torchrun hands on its own to its workers besides."""


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        """Nobody has, yet."""
        self.asked = False

    def _ask(self, _: int, __: FrameType | None) -> None:
        self.asked = True
        since = time.monotonic()

        def again(number: int, _: FrameType | None) -> None:
            if time.monotonic() - since > _REPEATED:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

        signal.signal(signal.SIGINT, _default_int())
        signal.signal(signal.SIGTERM, again)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one stops at once.

    A second SIGTERM does so some seconds later only: see `_REPEATED`.

    Outside the main thread signals cannot be caught, and the request is never made.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request._ask) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _default_int() -> signal.Handlers:
    return signal.default_int_handler  # type: ignore[return-value]  # a handler like any other
