"""Where the hub keeps the files of a split, so that a local copy can be read without the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mdmkit.data.opening import kind_of

LAYOUTS: tuple[str, ...] = (
    "<config>/<split>/*",
    "<config>/<split>-*",
    "<config>/<split>.*",
    "<split>/*",
    "<split>-*",
    "data/<split>-*",
    "data/<split>.*",
    "<split>.*",
)
"""What is looked for, in this order; the first that matches decides. Each ``*`` stays inside a
folder, and the file must be one that can be read (`opening.kind_of`)."""


def split_files(
    names: Iterable[str], *, config: str | None, split: str, pattern: str | None = None
) -> list[str]:
    """Out of the files of a data set, those of one split, sorted.

    Args:
        names: paths with forward slashes, relative to the top of the data set.
        config: the configuration (subset), or None.
        split: the split's name on the hub.
        pattern: what is looked for instead of `LAYOUTS`, written like these.

    Returns:
        The names, or an empty list where nothing fits.

    >>> split_files(["plain_text/test/0.parquet", "README.md"], config="plain_text", split="test")
    ['plain_text/test/0.parquet']
    """
    readable = sorted(n for n in names if kind_of(n))
    for layout in LAYOUTS if pattern is None else (pattern,):
        if "<config>" in layout and config is None:
            continue
        fits = re.compile(
            re.escape(layout)
            .replace(r"\*", "[^/]*")
            .replace("<config>", re.escape(config or ""))
            .replace("<split>", re.escape(split))
        )
        found = [n for n in readable if fits.fullmatch(n)]
        if found:
            return found
    return []


def expected_layout(config: str | None, split: str, pattern: str | None = None) -> str:
    """The layouts in words, for a message."""
    layouts = LAYOUTS if pattern is None else (pattern,)
    known = [x.replace("<split>", split) for x in layouts if config or "<config>" not in x]
    return ", ".join(x.replace("<config>", config or "") for x in known) + (
        " (files that end in .parquet, .arrow, .jsonl, .csv, .tsv or .txt)"
    )
