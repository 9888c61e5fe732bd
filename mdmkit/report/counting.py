"""A bar for work that is counted, such as an evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def counting(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function ``report(what, done, total)`` that moves a bar.

    Args:
        console: where the bar is, while the work goes on; nothing is shown without a terminal.
    """
    if not console.is_terminal:
        yield lambda what, done, total: None  # noqa: ARG005 - nobody looks
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield report
