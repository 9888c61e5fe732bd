"""What runs are called beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run_names(directories: Sequence[Path]) -> list[str]:
    """A name for each run: its directory's, with as many folders in front as tell it apart."""
    every = [directory.absolute().parts for directory in directories]
    return ["/".join(_end(parts, every)) for parts in every]


def _end(parts: Sequence[str], every: Sequence[Sequence[str]]) -> Sequence[str]:
    ends = (parts[-length:] for length in range(1, len(parts) + 1))
    alone = (end for end in ends if sum(other[-len(end) :] == end for other in every) == 1)
    return next(alone, parts)
