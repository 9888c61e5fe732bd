"""What a suite found, as a table: a row a set, and where several runs are compared a row a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from mdmkit.comparison.run_names import run_names
from mdmkit.report.numbers import with_error
from mdmkit.report.tables import columns
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.replay import Comparison, Replay
    from mdmkit.evaluation.suite_job import SuiteResult

COUNTS = {
    "tokens": "tokens_scored",
    "blocks": "blocks",
    "questions": "questions",
    "draws": "draws",
}
"""Columns of counts, and where provenance has them."""


def print_suite(console: Console, results: Sequence[SuiteResult]) -> None:
    """One table for one suite: the chief numbers of every set, for every run.

    An upper bound is marked by ``≤``, MDLM's slightly truncated one by ``≈``, an exact number by
    the word.
    """
    print_heading(console, results)
    for line in columns(set_rows(results)):
        _line(console, Text("  " + line))
    print_missing(console, results)


def print_heading(console: Console, results: Sequence[SuiteResult]) -> None:
    """The suite, and a line a run."""
    suite = results[0].suite
    title = [suite.name, suite.title, f"preset {suite.preset}" if suite.preset else ""]
    _line(console, Text(" · ".join(part for part in title if part), "bold"))
    for result, name in zip(results, _names(results), strict=True):
        _line(console, Text("  " + " · ".join(_weights(result, name))))


def print_missing(console: Console, results: Sequence[SuiteResult]) -> None:
    """Why sets are missing, a line each."""
    for label, reason in _missing(results).items():
        _line(console, Text(f"  {label} is missing: {reason.splitlines()[0]}"))


def print_replay(console: Console, found: Replay) -> None:
    """Every number of the file beside the same number now, and the verdict."""
    rows = [("set", "number", "recorded", "now", "")]
    rows += [
        (
            entry.label,
            entry.name,
            with_error(entry.recorded),
            with_error(entry.found),
            _verdict(entry),
        )
        for entry in found.comparisons
    ]
    for line in columns(rows):
        _line(console, Text("  " + line))
    for label, reason in found.missing.items():
        _line(console, Text(f"  {label} is missing: {reason.splitlines()[0]}"))
    for text in found.differences:
        _line(console, Text(f"  not the same measurement: {text}"))
    for text in found.circumstances:
        _line(console, Text(f"  measured elsewhere: {text}"))
    verdict = "found again" if found.matches else "NOT found again"
    _line(console, Text(f"{found.path}: {verdict}", "bold"))


def _verdict(entry: Comparison) -> str:
    if entry.bitwise:
        return "the same, bit for bit"
    return "within its error" if entry.matches else "NOT within its error"


def set_rows(results: Sequence[SuiteResult]) -> list[list[str]]:
    """A header, and for each set the row of each run that it is for."""
    return list(_rows(results))


def _rows(results: Sequence[SuiteResult]) -> Iterator[list[str]]:
    names = _numbers(results)
    counts = [
        name
        for name, key in COUNTS.items()
        if any(key in found.provenance for result in results for found in result.results.values())
    ]
    runs = ["run"] if len(results) > 1 else []
    yield ["set", *runs, *_headings(results, names), *counts, ""]
    for label in dict.fromkeys(label for result in results for label in result.suite.sets):
        for result, name in zip(results, _names(results), strict=True):
            if label not in result.suite.sets:
                continue  # it is not for this run
            own = [name] if runs else []
            found = result.results.get(label)
            if found is None:
                yield [label, *own, "missing", *[""] * (len(names) + len(counts))]
                continue
            cells = [_cell(found, number) for number in names]
            shown = [_count(found.provenance.get(COUNTS[count])) for count in counts]
            yield [label, *own, *cells, *shown, "exact" if _exact(found) else ""]


def _names(results: Sequence[SuiteResult]) -> list[str]:
    return run_names([result.directory for result in results])


def _numbers(results: Sequence[SuiteResult]) -> list[str]:
    """The measurements that get a column: the chief ones of each evaluator."""
    names: dict[str, None] = {}
    for result in results:
        for label, found in result.results.items():
            chief = getattr(result.suite.sets[label].evaluator, "chief", None)
            names |= dict.fromkeys(
                name for name in (chief or found.measurements) if name in found.measurements
            )
    return list(names)


def _headings(results: Sequence[SuiteResult], names: Sequence[str]) -> Iterator[str]:
    """The unit where it says all, as nats/token does; else the name."""
    units = {name: _unit(results, name) for name in names}
    for name, unit in units.items():
        yield unit if unit and list(units.values()).count(unit) == 1 else name


def _unit(results: Sequence[SuiteResult], name: str) -> str:
    found = (
        number.unit
        for result in results
        for entry in result.results.values()
        if (number := entry.measurements.get(name)) is not None
    )
    return next(found)


def _cell(found: Result, name: str) -> str:
    number: Measurement | None = found.measurements.get(name)
    return "" if number is None else f"{bound_mark(found, name)}{with_error(number)}"


def bound_mark(found: Result, name: str) -> str:
    """What stands before a number: ``≤`` or ``≈`` as in `print_suite`, or nothing."""
    unit = found.measurements[name].unit
    likelihood = unit.startswith(("nats/", "bits/")) or name.startswith("ppl")
    if not likelihood or found.provenance.get("exact") is not False:
        return ""
    return "≈ " if found.provenance.get("sampling_eps") else "≤ "  # with ε > 0 it is no bound


def _exact(found: Result) -> bool:
    return found.provenance.get("exact") is True


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _weights(result: SuiteResult, name: str) -> list[str]:
    settings: Mapping[str, Any] = result.record.settings
    average = "EMA" if settings["ema"] else "no EMA"
    return [f"run {name}", f"step {settings['checkpoint']}, {average}",
            settings["dtype"], f"seed {settings['seed']}"]  # fmt: skip


def _missing(results: Sequence[SuiteResult]) -> dict[str, str]:
    return {label: why for result in results for label, why in result.missing.items()}


def _line(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True, highlight=False)
