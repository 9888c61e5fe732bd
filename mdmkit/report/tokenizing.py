"""What tokenization says while it goes on: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from mdmkit.data.tokenization import Progress, Watch, lines


class Teller:
    """Tells on a console what happens to a data set."""

    def __init__(self, console: Console) -> None:
        """Tell it on `console`; ``console.is_terminal`` decides between moving and plain lines."""
        self._console = console

    def notify(self, text: str) -> None:
        """Print `text` as it is, above a moving line."""
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    @contextmanager
    def watching(self, split: str) -> Iterator[Watch]:
        """What to tell the progress of `split` to."""
        if not self._console.is_terminal:
            yield lines(self.notify)
            return
        bar = Bar(
            SpinnerColumn(),
            TextColumn(split),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        task = bar.add_task("", total=None, said="", visible=False)

        def watch(progress: Progress) -> None:
            bar.update(task, said=str(progress), visible=True)

        with bar:
            yield watch
