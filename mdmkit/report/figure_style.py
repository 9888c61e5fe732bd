"""How pictures look, and how they become files."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Those of Okabe and Ito, which people with the common kinds of colour blindness can tell apart."""


def colour(number: int) -> str:
    """The colour of a thing by its number."""
    return COLOURS[number % len(COLOURS)]


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """matplotlib with our settings inside; a picture of the same numbers is the same file."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "mdmkit", "font.size": 9, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        yield


def file_of(figure: Any, kind: str) -> bytes:
    """The figure as ``svg`` or ``png``."""
    held = io.BytesIO()
    dated = {"Date": None} if kind == "svg" else None
    figure.savefig(held, format=kind, dpi=160, metadata=dated)
    return held.getvalue()
