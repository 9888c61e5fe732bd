"""Texts that are longer than a judge's context: windows in which every token is scored once."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

STRIDE = "half of the judge's context"
"""By how much a window is ahead of the one before it, for provenance."""


@frozen(kw_only=True)
class Window:
    """Some of a text's tokens, as numbers of places.

    Attributes:
        start: the first that is shown.
        scored: the first that is scored; those before it are context.
        stop: one past the last.
    """

    start: int
    scored: int
    stop: int


def windows(count: int, context: int | None) -> Iterator[Window]:
    """Windows over a text of `count` tokens, at most `context` in each; None: no limit.

    Each goes on half a context further, so that what is scored in the later ones has at least
    half a context, rounded down, before it. The last is moved back until it is full.

    >>> [(w.start, w.scored, w.stop) for w in windows(9, 4)]
    [(0, 0, 4), (2, 4, 6), (4, 6, 8), (5, 8, 9)]
    """
    context = max(count, 1) if context is None else context
    stop = min(count, context)
    if count:
        yield Window(start=0, scored=0, stop=stop)
    while stop < count:
        scored = stop
        stop = min(count, stop + context - context // 2)
        yield Window(start=stop - context, scored=scored, stop=stop)
