"""Did you mean …? Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` was most likely meant to be, or None."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str], *, quote: str = '"') -> str:
    """``; did you mean "name"?`` for the closest known name, or nothing.

    >>> did_you_mean("unifrom", ["bell", "uniform"])
    '; did you mean "uniform"?'
    >>> did_you_mean("xyz", ["bell", "uniform"])
    ''
    """
    match = closest(word, known)
    return "" if match is None else f"; did you mean {quote}{match}{quote}?"
