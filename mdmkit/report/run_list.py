"""Runs and what may go of them, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from mdmkit.report.numbers import decimal, duration, size, with_error
from mdmkit.report.tables import columns, one_line, printable
from mdmkit.runs.cleaning import Plan
from mdmkit.runs.status import Best, RunStatus
from mdmkit.values import Measurement

HEADER = ("run", "status", "best validation NELBO", "changed", "size")
_DAY = 86400.0


def run_lines(statuses: Sequence[RunStatus], now: float) -> Iterator[str]:
    """A line for each run, and below it what is wrong with it, if anything is.

    Args:
        statuses: of the runs, as they are to be listed.
        now: seconds since 1970.
    """
    rows = [
        (
            one_line(status.directory.name),
            status.words,
            best_words(status.best),
            _changed(status.changed, now),
            size(status.size),
        )
        for status in statuses
    ]
    header, *lines = columns([HEADER, *rows])
    yield header
    for status, line in zip(statuses, lines, strict=True):
        yield line
        if status.why is not None:
            yield f"  {printable(status.why)}"


def best_words(best: Best | None) -> str:
    """The best validation in words; its unit is nats per token."""
    if best is None:
        return "-"
    if best.stderr is None:
        return f"{decimal(best.value)} (step {best.step})"
    return f"{with_error(Measurement(value=best.value, stderr=best.stderr))} (step {best.step})"


def plan_lines(plans: Sequence[Plan]) -> Iterator[str]:
    """What would go of each run, and what is odd."""
    for plan in plans:
        if not (plan.removals or plan.notes):
            continue
        keeps = ", ".join(map(str, plan.keeps)) or "none"
        yield f"{one_line(plan.directory.name)}" + (
            f": the checkpoints of these steps stay: {keeps}" if plan.removals else ""
        )
        for line in columns([(r.path.name, r.what, size(r.size)) for r in plan.removals] or [()]):
            if line:
                yield f"  {printable(line)}"
        yield from (f"  {printable(note)}" for note in plan.notes)


def _changed(changed: float, now: float) -> str:
    """How long ago, or the day."""
    if not changed:
        return "-"
    ago = max(now - changed, 0.0)
    if ago < 30 * _DAY:
        return f"{duration(ago)} ago"
    return datetime.fromtimestamp(changed).astimezone().date().isoformat()
