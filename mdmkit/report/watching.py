"""Text while it is being unmasked, live on a terminal."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mdmkit.report.tables import GENERATED, printable

if TYPE_CHECKING:
    from mdmkit.evaluation.sample_states import PartialText, SampleState

STYLES = {"given": "", "masked": "dim", "new": "bold reverse", "generated": GENERATED}
"""How each kind of text looks."""
PLAIN_GLYPH = "_"
"""A mask where the terminal has no other characters than ASCII."""
PAUSE = 0.04
"""Seconds between two states that are shown."""
_BELOW = 1
"""Lines that are left free, so that nothing scrolls."""


@contextlib.contextmanager
def watching(
    console: Console, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[SampleState], None]]:
    """Give a function that shows a state in the place of the one before; in the end all is gone.

    States that come sooner than can be seen are passed over, but not one without masks.

    Args:
        console: a terminal.
        clock: seconds, rising.
    """
    last = -math.inf
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(state: SampleState) -> None:
            nonlocal last
            now = clock()
            if now - last >= PAUSE or not any(text.masks for text in state.texts):
                live.update(shown(console, state), refresh=True)
                last = now

        yield show


def shown(console: Console, state: SampleState) -> Group:
    """As many texts of a state as the terminal has room for, below a line of figures."""
    masks = sum(text.masks for text in state.texts)
    head = f"step {state.step} · {state.network_evaluations} network evaluations · {masks} masks"
    lines: list[Text] = []
    room, seen = max(console.height - _BELOW - 1, 1), 0
    for text in state.texts:
        block = [Text(_name(text), "bold"), *_lines(console, text)]
        if lines and len(lines) + len(block) > room:
            break
        lines += block[:room]
        seen += 1
    if seen < len(state.texts):
        head += f" · {seen} of {len(state.texts)} texts"
    return Group(Text(head, "bold", no_wrap=True, overflow="ellipsis"), *lines)


def _name(text: PartialText) -> str:
    of = "" if text.template_id is None else f" · template {text.template_id}"
    return printable(f"sample {text.row}{of}")


def _lines(console: Console, text: PartialText) -> list[Text]:
    """The text, broken to the width of the terminal."""
    line = Text()
    for piece in text.pieces:
        plain = printable(piece.text)
        if piece.kind == "masked" and console.options.ascii_only:
            plain = PLAIN_GLYPH * len(plain)
        line.append(plain, STYLES[piece.kind])
    return [
        part
        for whole in line.split("\n", allow_blank=True)
        for part in whole.wrap(console, console.width, overflow="fold") or [Text()]
    ]
