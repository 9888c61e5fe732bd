"""Tables and panels of a run's outcome."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mdmkit.report.numbers import with_error

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.generate import Sample


def results_table(results: Mapping[str, Result]) -> Group:
    """A table for each evaluator: its numbers ± standard error, and what they were measured on."""
    return Group(*(_result_table(label, result) for label, result in results.items()))


def _result_table(label: str, result: Result) -> Group:
    heading = Text(" · ".join([label, *_circumstances(result.provenance)]), style="bold")
    table = Table()
    table.add_column("number")
    table.add_column("value ± standard error", justify="right")
    table.add_column("unit")
    for name, number in result.measurements.items():
        row = [name, with_error(number), number.unit]
        table.add_row(*(Text(cell) for cell in row))  # Text: nothing in it is markup
    return Group(heading, table)  # a table's own title would be wrapped to the table's width


def samples_panel(samples: Sequence[Sample]) -> Group:
    """Generated text as it is, each in a frame that says how it was made."""
    panels = [
        Panel(
            Text(sample.text),
            title=Text(f"sample {sample.row} · seed {sample.seed}"),
            subtitle=Text(f"{sample.sampler} · {sample.network_evaluations} network evaluations"),
            title_align="left",
            subtitle_align="right",
        )
        for sample in samples
    ]
    return Group(*panels)


def key_values(pairs: Mapping[str, Any], title: str = "") -> Table:
    """Two columns: names and values."""
    table = Table(title=title or None, title_justify="left", show_header=False)
    for name, value in pairs.items():
        table.add_row(Text(name, style="bold"), Text(str(value)))
    return table


def next_commands(directory: Path) -> list[str]:
    """What to type after a run."""
    place = shlex.quote(str(directory))
    return [f"mdmkit eval {place}", f"mdmkit sample {place}"]


def print_summary(
    console: Console,
    *,
    directory: Path,
    results: Mapping[str, Result],
    samples: Sequence[Sample],
) -> None:
    """The end of a run: numbers, some text, where it all is, and what to type next."""
    if results:
        console.print(results_table(results))
    if samples:
        console.print(samples_panel(samples))
    # soft wrap: a path that is broken over lines cannot be copied
    console.print(Text(f"Run directory: {directory}"), soft_wrap=True)
    console.print(Text("Next:"))
    for command in next_commands(directory):
        console.print(Text(f"  {command}"), soft_wrap=True)


def _circumstances(provenance: Mapping[str, Any]) -> list[str]:
    """Split, blocks, draws and weights in words, as far as the evaluator tells them."""
    forms = (("split", "split {}"), ("blocks", "{} blocks"), ("draws", "draws {}"))
    found = [form.format(provenance[key]) for key, form in forms if key in provenance]
    checkpoint = provenance.get("checkpoint")
    if isinstance(checkpoint, Mapping):
        found.append(f"step {checkpoint['step']}, {'EMA' if checkpoint['ema'] else 'no EMA'}")
    return found
