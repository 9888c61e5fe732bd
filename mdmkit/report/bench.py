"""What a bench found, as tables: rich ones on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdmkit.report.numbers import duration, rate, size
from mdmkit.report.tables import columns

if TYPE_CHECKING:
    from mdmkit.benchmarking.machine import Rate
    from mdmkit.benchmarking.result import BenchResult, Spread


@frozen
class Section:
    """A table under a title; the first column holds words, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def print_bench(console: Console, found: BenchResult, *, operations: bool = False) -> None:
    """The result for people.

    Args:
        console: where to.
        found: the result.
        operations: whether to print the table of operations, too.
    """
    sections = [_speed(found), _phases(found), _roofline(found), _machine(found)]
    if found.largest_batch is not None:
        sections.append(_batches(found))
    if operations:
        sections.append(_operations(found))
    for section in sections:
        if section.rows:
            _print(console, section)
    for note in found.notes:
        console.print(Text(note), soft_wrap=True)


def _print(console: Console, section: Section) -> None:
    console.print(Text(section.title, "bold"), soft_wrap=True)
    if console.is_terminal:
        table = Table(show_header=any(section.header))
        for number, name in enumerate(section.header):
            table.add_column(Text(name), justify="right" if number else "left")
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        return
    header = [section.header] if any(section.header) else []
    for line in columns([*header, *section.rows]):
        console.print(Text(f"  {line}"), soft_wrap=True, highlight=False)


def _speed(found: BenchResult) -> Section:
    sizes, used = found.sizes, found.utilisation
    title = f"{found.recipe['name']} ({found.recipe['hash']}) · {found.text} text · " + (
        f"{found.devices} × {found.environment['device']}"
    )
    rows = [
        ("tokens/s", rate(found.tokens_per_second)),
        ("step", _times(found.step)),
        ("first step", milliseconds(found.first_step)),
        ("CPU", f"{found.cpu_seconds:.2f} s a second, {found.environment['threads']} threads"),
        ("a step", f"{sizes.rows} rows × {sizes.length} tokens, V = {sizes.vocab_size}"),
        ("parameters", f"{sizes.parameters:,}"),
        ("logits", f"at {sizes.scored_share:.1%} of the positions"),
    ]
    if used is not None:
        rows.append(("model FLOP utilisation", f"{used.model:.1%} of the measured peak"))
        again = "not known" if used.hardware is None else f"{used.hardware:.1%}"
        rows.append(("hardware FLOP utilisation", again))
    if found.compile_seconds is not None:
        rows.append(("compilation", duration(found.compile_seconds)))
    if found.profile.communication is not None:
        rows.append(("communication", milliseconds(found.profile.communication)))
    rows += _memory(found)
    return Section(title, ("", ""), rows)


def _memory(found: BenchResult) -> Iterator[tuple[str, str]]:
    worst = max(found.memory, key=lambda memory: memory.peak)
    held = "" if worst.reserved is None else f", {size(worst.reserved)} reserved"
    yield "peak memory", f"{size(worst.peak)}{held} ({worst.source})"


def _phases(found: BenchResult) -> Section:
    whole = sum(spread.median for spread in found.phases.values())
    rows = [
        (name, milliseconds(spread.median), f"{spread.median / whole:.1%}")
        for name, spread in found.phases.items()
    ]
    rows.append(("their step", milliseconds(found.phase_step.median), ""))
    return Section("phases of a step (medians)", ("", "time", "share"), rows)


def _roofline(found: BenchResult) -> Section:
    rows = [
        (
            part.name,
            f"{part.flops / 1e9:.3g}" if part.flops else "",
            f"{part.bytes / 1e6:.3g}" if part.bytes else "",
            "" if part.ceiling is None else milliseconds(part.ceiling),
            part.bound or "",
            "" if part.measured is None else milliseconds(part.measured),
            "" if part.measured is None else f"{part.measured / found.step.median:.1%}",
        )
        for part in found.roofline
    ]
    header = ("", "GFLOP", "MB, least", "at the ceiling", "bound", "measured", "of the step")
    return Section("where a step goes, on one device", header, rows)


def _machine(found: BenchResult) -> Section:
    rows = []
    for rank, machine in enumerate(found.machines):
        for side, speed in machine.matmul.items():
            what = f"{machine.dtype} matrix product {side}"
            rows.append((str(rank), what, *(f"{x / 1e9:.4g} GFLOP/s" for x in _both(speed))))
        what = f"copy of {size(machine.copied_bytes)}"
        rows.append((str(rank), what, *(f"{x / 1e9:.3g} GB/s" for x in _both(machine.copy))))
    return Section("measured ceilings", ("rank", "", "median", "best"), rows)


def _both(speed: Rate) -> tuple[float, float]:
    return speed.median, speed.best


def _batches(found: BenchResult) -> Section:
    largest = found.largest_batch
    assert largest is not None
    rows = [(str(n), "fits" if fits else "does not fit") for n, fits in largest.tried.items()]
    title = f"largest micro-batch: {largest.rows} rows"
    if largest.tokens_per_second is not None and largest.peak is not None:
        title += f", {rate(largest.tokens_per_second)} tokens/s, peak {size(largest.peak)}"
    return Section(title, ("rows", ""), rows)


def _operations(found: BenchResult) -> Section:
    rows = [
        (op.name, f"{op.calls:.3g}", milliseconds(op.seconds), str(op.shapes))
        for op in found.profile.operations
    ]
    title = f"operations, a step, in the mean of {found.profile.steps} profiled ones"
    return Section(title, ("", "calls", "time in it", "shapes"), rows)


def _times(spread: Spread) -> str:
    quartiles = f"{milliseconds(spread.lower)} to {milliseconds(spread.upper)}"
    return f"{milliseconds(spread.median)} (median of {spread.count}; quartiles {quartiles})"


def milliseconds(seconds: float) -> str:
    """A short time.

    >>> milliseconds(0.0123456), milliseconds(0.00000123), milliseconds(2.5)
    ('12.3 ms', '0.00123 ms', '2.5 s')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
