"""Numbers with their errors, of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.page.markup import Content, Markup, details, joined, table, tag
from mdmkit.report.page.plots import number_text
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.recipes import leaves
from mdmkit.report.page.summary import swatch
from mdmkit.values import Measurement

_FIRST = (
    "split", "data.split", "set.split", "checkpoint.step", "checkpoint.ema", "seed", "precision",
    "data.corpus.source", "data.corpus.version", "data.corpus.revision", "data.corpus.sha256",
    "data.tokenizer_fingerprint", "tokenizer_fingerprint", "data.packing.use", "data.length",
)  # fmt: skip
"""Keys of provenance that are asked for most."""

Found = Mapping[str, Measurement]


def named_runs(runs: Sequence[ReportedRun]) -> list[Markup]:
    """The runs as headings of columns."""
    return [joined(swatch(run.number), run.label) for run in runs]


def measurement_table(
    runs: Sequence[ReportedRun], found: Sequence[Found], *, caption: str
) -> Markup:
    """A row for each number, a column for each run.

    Args:
        runs: with something.
        found: of each run, its measurements by name.
        caption: of the table.
    """
    header = ["value ± standard error", *named_runs(runs)]
    return table(header, list(measurement_rows(found)), caption=caption)


def measurement_rows(found: Sequence[Found]) -> Iterator[list[Content]]:
    """Name and unit, and the numbers of each run."""
    for name in dict.fromkeys(name for measurements in found for name in measurements):
        of_runs = [measurements.get(name) for measurements in found]
        unit = next(one.unit for one in of_runs if one is not None)
        named = joined(tag("code", name), tag("span", unit, class_="of-unit") if unit else None)
        yield [named, *map(_measured, of_runs)]


def _measured(number: Measurement | None) -> str:
    return number_text(number and number.value, number and number.stderr)


def provenance(
    runs: Sequence[ReportedRun], found: Sequence[Mapping[str, Any]], *, of: str
) -> Markup:
    """What was measured on what, folded."""
    trees = [dict(_facts(facts)) for facts in found]
    keys = list(dict.fromkeys(key for tree in trees for key in tree))
    keys.sort(key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    rows = [[tag("code", key), *(tree.get(key, "-") for tree in trees)] for key in keys]
    header = ["fact", *named_runs(runs)]
    told = table(header, rows, caption=f"Provenance of {of}", words=len(header))
    return details(f"Provenance of {of}", told)


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(facts):
        yield key, value[1:-1] if value.startswith('"') else value
