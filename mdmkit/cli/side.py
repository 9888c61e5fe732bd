"""Beside the output: which process prints, and where progress and notices go."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def prints() -> bool:
    """Whether this process is the one that prints, among those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def side() -> Console:
    """Where progress and notices go."""
    from rich.console import Console

    return Console(stderr=True, quiet=not prints())


def said(aside: Console) -> Callable[[str], None]:
    """Tells the user something there, as it is."""
    return lambda text: aside.print(text, markup=False, highlight=False, soft_wrap=True)
