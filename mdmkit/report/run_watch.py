"""Following a run: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mdmkit.report.run_view import news_lines, sample_lines, view_lines
from mdmkit.report.tables import printable
from mdmkit.runs.follow import Follower, View
from mdmkit.runs.status import RunStatus

INTERVAL = 1.0
"""Seconds between two looks."""
LAST_LINES = 10
"""Lines that a follower without a terminal begins with."""
_QUIT = b"qQ\x03"

Pause = Callable[[float], bool]
"""Waits so many seconds; says whether the user wants to leave."""


def print_view(console: Console, directory: Path) -> RunStatus:
    """The run as it is now, once."""
    with Follower(directory) as follower:
        view = follower.look(time.time())
    console.print(_group(console, view))
    return view.status


def watch_run(console: Console, directory: Path) -> RunStatus:
    """Follow the run until it ends, or the user leaves.

    Returns:
        What became of it until then.
    """
    with Follower(directory) as follower, contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal:
            with _keys() as pause:
                _live(console, follower, pause)
        else:
            _plain(console, follower, _sleep)
    with Follower(directory) as follower:
        return follower.look(time.time()).status


def _live(console: Console, follower: Follower, pause: Pause) -> None:
    view = follower.look(time.time())
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(_group(console, view), refresh=True)
            if view.over or pause(INTERVAL):
                return
            view = follower.look(time.time())


def _plain(console: Console, follower: Follower, pause: Pause) -> None:
    def say(text: str) -> None:
        console.print(Text(printable(text)), highlight=False, soft_wrap=True)

    found: set[str] = set()
    sampled, first = -1, True
    while True:
        view = follower.look(time.time())
        lines = list(news_lines(view))
        for line in lines[-LAST_LINES:] if first else lines:
            say(line)
        if view.samples is not None and view.samples.step != sampled:
            for line in sample_lines(view.samples):
                say(line)
            sampled = view.samples.step
        for odd in view.findings:
            if odd.partition(":")[0] not in found:
                say(f"! {odd}")
        found = {odd.partition(":")[0] for odd in view.findings}
        first = False
        if view.over:
            say(view.status.words)
            return
        if pause(INTERVAL):
            return


def _group(console: Console, view: View) -> Group:
    height = console.height - 1  # the line below, so that nothing scrolls
    ascii_only = console.options.ascii_only
    return Group(*view_lines(view, width=console.width, height=height, ascii_only=ascii_only))


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextlib.contextmanager
def _keys() -> Iterator[Pause]:
    """A pause that keys end, q among them or not; without a keyboard it is like any other."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pause(seconds: float) -> bool:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        if not ready:
            return False
        keys = os.read(descriptor, 64)
        return not keys or any(key in keys for key in _QUIT)  # none: nobody is there any more

    try:
        tty.setcbreak(descriptor)
        yield pause
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)  # whether or not anybody reads on
