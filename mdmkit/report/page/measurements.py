"""Numbers with their errors, of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.page.markup import Content, Markup, details, joined, table, tag
from mdmkit.report.page.plots import finite, number_text
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.recipes import leaves
from mdmkit.report.page.summary import swatch

_FIRST = (
    "split", "data.split", "set.split", "checkpoint.step", "checkpoint.ema", "seed", "precision",
    "data.corpus.source", "data.corpus.version", "data.corpus.revision", "data.corpus.sha256",
    "data.tokenizer_fingerprint", "tokenizer_fingerprint", "data.packing.use", "data.length",
)  # fmt: skip
"""Keys of provenance that are asked for most."""


def named_runs(runs: Sequence[ReportedRun]) -> list[Markup]:
    """The runs as headings of columns."""
    return [joined(swatch(run.number), run.label) for run in runs]


def measurement_table(
    runs: Sequence[ReportedRun], found: Sequence[Mapping[str, Any]], *, caption: str
) -> Markup:
    """A row for each number, a column for each run.

    Args:
        runs: with something.
        found: of each run, its measurements as plain data, by name.
        caption: of the table.
    """
    names = list(dict.fromkeys(name for measurements in found for name in measurements))
    rows: list[Sequence[Content]] = []
    for name in names:
        of_runs = [measurements.get(name) for measurements in found]
        unit = next((str(one.get("unit") or "") for one in of_runs if isinstance(one, Mapping)), "")
        rows.append([tag("code", name), unit, *map(measured, of_runs)])
    return table(
        ["number ± standard error", "unit", *named_runs(runs)], rows, caption=caption, words=2
    )


def measured(plain: object) -> str:
    """A measurement as plain data, in words."""
    if not isinstance(plain, Mapping):
        return "–"
    return number_text(finite(plain.get("value")), finite(plain.get("stderr")))


def provenance(
    runs: Sequence[ReportedRun], found: Sequence[Mapping[str, Any]], *, of: str
) -> Markup:
    """What was measured on what, folded."""
    trees = [dict(_facts(facts)) for facts in found]
    keys = list(dict.fromkeys(key for tree in trees for key in tree))
    keys.sort(key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    rows = [[tag("code", key), *(tree.get(key, "–") for tree in trees)] for key in keys]
    header = ["fact", *named_runs(runs)]
    told = table(header, rows, caption=f"Provenance of {of}", words=len(header))
    return details(f"Provenance of {of}", told)


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(facts):
        yield key, value[1:-1] if value.startswith('"') else value
