"""A comparison in words: plain tables, nothing cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from mdmkit.comparison.difference import Difference
from mdmkit.comparison.results import Comparison, MethodResult, Point
from mdmkit.comparison.speed import Ratio, Reached
from mdmkit.report.numbers import duration, rate, with_error
from mdmkit.report.tables import columns
from mdmkit.values import Measurement

_INDENT = "  "
_BOUNDS = {"exact": "", "at least": "> ", "at most": "< "}
_VERDICTS = {True: "shown", False: "not shown", None: "no bound: one document"}
Rows = Sequence[Sequence[str]]


def print_comparison(console: Console, found: Comparison) -> None:
    """Everything that was found, as tables under titles."""
    for number, (title, rows) in enumerate(comparison_tables(found)):
        if number:
            console.print()
        console.print(Text(title, "bold"), soft_wrap=True, highlight=False)
        for line in columns(rows) if rows else ():
            console.print(Text(_INDENT + line), soft_wrap=True, highlight=False)


def comparison_tables(found: Comparison) -> Iterator[tuple[str, Rows]]:
    """A title and the rows under it, the first of them a header."""
    yield _circumstances(found), []
    yield "validation NELBO, nats per token", _nelbo(found)
    if found.speed_ups:
        title = f"speed-up over {found.baseline} to the same NELBO [95% interval]"
        yield title, _speed_ups(found)
    if found.plateau is not None:
        margin = found.settings["escape_margin"]
        yield (
            (
                f"leaving the plateau: {margin:g} below {found.plateau.nelbo:.3f} "
                f"({found.plateau.source})"
            ),
            _escapes(found),
        )
    if found.no_worse:
        margin = found.settings["margin"]
        title = f"no worse than {found.baseline} by more than {margin:g} nats per token"
        yield f"{title} (one-sided, 95%)", _no_worse(found)
    if found.settings["envelope"]:
        yield "the best learning rate at each budget", _learning_rates(found.methods)
    if (rows := _training(found.methods)) is not None:
        yield "training, means over the run", rows
    if (rows := _by_t(found.methods)) is not None:
        yield "training loss by t, means over the run", rows
    if found.notes:
        yield "notes", [(note,) for note in found.notes]


def _circumstances(found: Comparison) -> str:
    ground, settings = found.ground, found.settings
    draws = ground["draws"]
    parts = [
        f"{len(found.methods)} methods, {sum(len(m.runs) for m in found.methods)} runs",
        f"{ground['blocks']} blocks × {draws} {'draw' if draws == 1 else 'draws'}",
        f"{ground['clusters']['count']} {ground['clusters']['kind']}",
        f"{settings['resamples']} resamples, seed {settings['seed']}",
    ]
    return " · ".join(parts)


def _nelbo(found: Comparison) -> Rows:
    budget = "budget" if found.settings["cooled"] else "step"
    header = (
        "method", "seeds", "final ± error", budget, "over seeds", "over documents",
        "best ± error", budget,
    )  # fmt: skip
    return [header, *(_nelbo_row(method, found.baseline) for method in found.methods)]


def _nelbo_row(method: MethodResult, baseline: str) -> Sequence[str]:
    def value(point: Point) -> str:
        return with_error(Measurement(value=point.nelbo, stderr=point.stderr))

    final, best = method.final, method.best
    return (
        method.label + (" (baseline)" if method.label == baseline else ""),
        ", ".join(map(str, method.seeds)),
        value(final),
        str(final.step),
        "-" if final.seed_stderr is None else f"{final.seed_stderr:.4f}",
        f"{final.document_stderr:.4f}",
        value(best),
        str(best.step),
    )


def _speed_ups(found: Comparison) -> Rows:
    """The ratios on every axis; axes that read the same in every row share a column."""
    axes = list(dict.fromkeys(axis for row in found.speed_ups for axis in row.ratios))
    cells = {
        axis: tuple(
            ratio_text(row.ratios[axis]) if axis in row.ratios else "-" for row in found.speed_ups
        )
        for axis in axes
    }
    shared: dict[tuple[str, ...], list[str]] = {}
    for axis, column in cells.items():
        shared.setdefault(column, []).append(axis)
    header = ["method", "level", "NELBO", "its steps", "baseline's"]
    header += [" = ".join(_title(axis) for axis in names) for names in shared.values()]
    rows = [header]
    for number, row in enumerate(found.speed_ups):
        start = [row.method, row.level, f"{row.nelbo:.3f}"]
        start += [reached_text(row.costs["steps"]), reached_text(row.baseline_costs["steps"])]
        rows.append(start + [column[number] for column in shared])
    return rows


def _title(axis: str) -> str:
    return "FLOPs" if axis == "flops" else axis


def _escapes(found: Comparison) -> Rows:
    rows = [("method", "steps", "speed-up", "runs")]
    runs = {method.label: method.runs for method in found.methods}
    for escape in found.escapes:
        each = [run.escape for run in runs[escape.method] if run.escape is not None]
        rows.append(
            (
                escape.method,
                reached_text(escape.steps),
                "-" if escape.ratio is None else ratio_text(escape.ratio),
                ", ".join(map(reached_text, each)),
            )
        )
    return rows


def _no_worse(found: Comparison) -> Rows:
    rows = [("method", "mask ratio", "difference ± error", "upper bound", "verdict", "covers")]
    for test in found.no_worse:
        for number, part in enumerate(test.parts):
            rows.append(
                (
                    test.method if number == 0 else "",
                    part.part,
                    _difference(part),
                    "-" if part.upper is None else f"{part.upper:+.4f}",
                    _VERDICTS[part.shown],
                    test.covers if number == 0 else "",
                )
            )
    return rows


def _difference(part: Difference) -> str:
    text = with_error(Measurement(value=part.value, stderr=part.stderr))
    return text if part.value < 0 else f"+{text}"


def _learning_rates(methods: Sequence[MethodResult]) -> Rows:
    rows = [("method", "steps", "peak")]
    for method in methods:
        points = zip(method.curve.costs["steps"], method.curve.peaks, strict=True)
        for peak, stretch in groupby(points, key=lambda point: point[1]):
            steps = [int(step) for step, _ in stretch]
            reach = str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
            rows.append((method.label, reach, f"{peak:g}"))
    return rows


def _training(methods: Sequence[MethodResult]) -> Rows | None:
    told = [method.diagnostics for method in methods]
    if all(own.clipped_share is None and own.noise_scale is None for own in told):
        return None
    rows = [("method", "clipped steps", "gradient noise scale")]
    for method, own in zip(methods, told, strict=True):
        clipped = "-" if own.clipped_share is None else f"{own.clipped_share:.1%}"
        noise = "-" if own.noise_scale is None else f"{own.noise_scale:.3g}"
        rows.append((method.label, clipped, noise))
    return rows


def _by_t(methods: Sequence[MethodResult]) -> Rows | None:
    tables: list[Mapping[str, float]] = [method.diagnostics.nll_at_t for method in methods]
    centres = sorted({centre for table in tables for centre in table}, key=float)
    if not centres:
        return None
    rows: list[Sequence[str]] = [("method", *(f"t = {centre}" for centre in centres))]
    for method, table in zip(methods, tables, strict=True):
        cells = [f"{table[centre]:.3f}" if centre in table else "-" for centre in centres]
        rows.append((method.label, *cells))
    return rows


def ratio_text(ratio: Ratio) -> str:
    """A ratio and its interval.

    >>> numbers = {"low": 1.6, "high": None, "log_stderr": 0.1, "censored": 0.2}
    >>> ratio_text(Ratio(kind="at least", value=1.9, **numbers))
    '> 1.90 [1.60, …)'
    """
    if ratio.value is None:
        return "unknown"
    low = "(…" if ratio.low is None else f"[{_short(ratio.low)}"
    high = "…)" if ratio.high is None else f"{_short(ratio.high)}]"
    return f"{_BOUNDS[ratio.kind]}{_short(ratio.value)} {low}, {high}"


def reached_text(reached: Reached) -> str:
    """Steps, or a bound of them.

    >>> reached_text(Reached(kind="at least", value=699.9999))
    '> 700'
    """
    if reached.value is None:
        return "unknown"
    return f"{_BOUNDS[reached.kind]}{reached.value:.0f}"


def _short(value: float) -> str:
    digits = max(2 - math.floor(math.log10(value)), 0) if value > 0 else 0
    return f"{value:.{min(digits, 3)}f}"


def cost_text(axis: str, value: float) -> str:
    """A cost in its unit, in few characters.

    >>> cost_text("tokens", 2_400_000.0), cost_text("seconds", 83.0), cost_text("flops", 1.2e15)
    ('2.4M', '1m23s', '1.2e+15')
    """
    if axis == "seconds":
        return duration(value)
    return f"{value:.2g}" if axis == "flops" else rate(value)
