"""The generation frontier in words: what each sampler came to, and runs at equal entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console
from rich.text import Text

from mdmkit.comparison.frontier import Frontier, generated_labels
from mdmkit.comparison.generated_text import GeneratedText
from mdmkit.report.numbers import with_error
from mdmkit.report.suite_table import print_heading, print_missing, set_rows
from mdmkit.report.tables import columns
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.comparison.matched_entropy import AtEntropy, Matched
    from mdmkit.evaluation.suite_job import SuiteResult

SHOWN: Mapping[str, str] = {
    "network_evaluations": "calls",
    "generative_nll": "judge NLL",
    "generative_perplexity": "perplexity",
    "generative_bits_per_byte": "bits/byte",
    "unigram_entropy": "entropy",
    "rep_4": "rep 4",
    "distinct_2": "distinct 2",
}
"""Columns, by measurement; those that no text has are left out."""

NOT_REACHED = "not reached"
Rows = Sequence[Sequence[str]]


def print_frontier(console: Console, found: Frontier, results: Sequence[SuiteResult]) -> None:
    """A table a run, what else the suite measured, and the comparisons."""
    print_heading(console, results)
    for title, rows, notes in _tables(found, results):
        console.print()
        _line(console, title, "bold")
        for line in columns(rows):
            _line(console, f"  {line}")
        for note in notes:
            _line(console, f"  {note}")
    for caution in found.cautions:
        _line(console, caution)
    print_missing(console, results)


def _tables(
    found: Frontier, results: Sequence[SuiteResult]
) -> Iterator[tuple[str, Rows, Sequence[str]]]:
    """A title, the rows under it with their header, and what is to be known of them."""
    for run in found.runs:
        own = [text for text in found.texts if text.run == run]
        yield f"run {run}", list(_texts(own, found.real.get(run, {}))), _TEXTS
    others = [_others(result) for result in results]
    if any(result.results for result in others):
        yield "other sets", set_rows(others), ()
    if found.matched:
        yield "judge NLL at equal unigram entropy", list(_matched(found)), _MATCHED
    if len(found.runs) > 1 and any(entry.best for entry in found.matched):
        yield "the best sampler of each run at equal unigram entropy", list(_best(found)), _BEST
    if found.steps:
        yield "the error of few steps", list(_steps(found)), _STEPS


_TEXTS = (
    "*: none of this run has a lower NLL with no less entropy and no more calls. NLL in nats per "
    "token of the judge's, entropy in nats",
)
_MATCHED = (
    "nats per token of the judge's, interpolated along the temperature and never beyond it; in "
    "brackets: over the first run with the same sampler",
)
_BEST = ("in brackets: over the first run; the best of several is flattered by chance",)
_STEPS = (
    "predicted: by how much T steps raise the NELBO of real text, nats per token of the run's, "
    "from h alone (with exact posteriors: the KL divergence of what is generated)",
    "judged: by how much the judge's NLL of generated text is above that at the most steps; over "
    "the most: the same difference of the prediction. Not the same number: compare signs and "
    "sizes, in bits per byte",
)


def _texts(texts: Sequence[GeneratedText], real: Mapping[str, Measurement]) -> Iterator[list[str]]:
    """A row a text, and real text as the last."""
    varied = list(dict.fromkeys(key for text in texts for key in text.varied))
    shown = [name for name in SHOWN if any(name in text.numbers for text in texts)]
    yield ["", "sampler", *varied, *(SHOWN[name] for name in shown)]
    for text in texts:
        options = [_option(text, key) for key in varied]
        cells = [_cell(text.numbers.get(name)) for name in shown]
        yield ["*" if text.best else "", text.name, *options, *cells]
    if real:
        yield ["", "real text", *[""] * len(varied), *(_cell(real.get(name)) for name in shown)]


def _option(text: GeneratedText, key: str) -> str:
    value: Any = text.varied.get(key, text.sampler.get(key))
    return "" if value is None else str(value)


def _cell(number: Measurement | None) -> str:
    if number is None:
        return ""
    if number.stderr == 0 and number.value == round(number.value):
        return f"{number.value:.0f}"
    return with_error(number)


def _others(result: SuiteResult) -> SuiteResult:
    """The sets in which nothing is generated."""
    generated = set(generated_labels(result))
    kept = {label: entry for label, entry in result.suite.sets.items() if label not in generated}
    return attrs.evolve(
        result,
        suite=attrs.evolve(result.suite, sets=kept),
        results={label: one for label, one in result.results.items() if label in kept},
    )


def _heading(entry: Matched) -> str:
    return f"{entry.entropy:.3f} (real text)" if entry.of else f"{entry.entropy:g}"


def _matched(found: Frontier) -> Iterator[list[str]]:
    """A row a run and sampler, a column an entropy."""
    yield ["run", "sampler", *map(_heading, found.matched)]
    for entries in zip(*(entry.curves for entry in found.matched), strict=True):
        first, cells = entries[0], [_at(entry) for entry in entries]
        if any(entry.nll is not None for entry in entries):
            yield [first.run, first.curve, *cells]


def _best(found: Frontier) -> Iterator[list[str]]:
    yield ["run", *map(_heading, found.matched)]
    for run in found.runs:
        cells = []
        for entry in found.matched:
            own = next((best for best in entry.best if best.run == run), None)
            cells.append(NOT_REACHED if own is None else f"{_at(own)} {own.curve}")
        yield [run, *cells]


def _at(entry: AtEntropy) -> str:
    if entry.nll is None:
        return NOT_REACHED
    over = f" [{_signed(entry.over)}]" if entry.over is not None else ""
    return f"{with_error(entry.nll)}{over}"


def _signed(number: Measurement) -> str:
    text = with_error(number)
    return text if text.startswith("-") else f"+{text}"


def _steps(found: Frontier) -> Iterator[list[str]]:
    judged = "judged, nats/judge token"
    over = "over the most, bits/byte"
    yield ["run", "sampler", "T", "predicted, nats/token", over, judged, "bits/byte"]
    for row in found.steps:
        last = f"0 by definition (T = {row.most_steps})" if row.steps == row.most_steps else ""
        yield [
            row.run,
            row.sampler,
            str(row.steps),
            with_error(row.predicted),
            _cell(row.predicted_over_bits),
            _cell(row.judged) or last,
            _cell(row.judged_bits),
        ]


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True, highlight=False)
