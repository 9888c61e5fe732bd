"""Numbers with their errors, of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.evaluation.driver import Result
from mdmkit.report.page.markup import Content, Markup, details, joined, table, tag
from mdmkit.report.page.plots import number_text
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.recipes import leaves
from mdmkit.report.page.summary import swatch
from mdmkit.report.suite_table import bound_mark

_FIRST = (
    "split", "data.split", "set.split", "checkpoint.step", "checkpoint.ema", "seed", "precision",
    "data.corpus.source", "data.corpus.version", "data.corpus.revision", "data.corpus.sha256",
    "data.tokenizer_fingerprint", "tokenizer_fingerprint", "data.packing.use", "data.length",
)  # fmt: skip
"""Keys of provenance that are asked for most."""

Found = Sequence[Result | None]


def named_runs(runs: Sequence[ReportedRun]) -> list[Markup]:
    """The runs as headings of columns."""
    return [joined(swatch(run.number), run.label) for run in runs]


def measurement_table(runs: Sequence[ReportedRun], found: Found, *, caption: str) -> Markup:
    """A row for each number, a column for each run.

    Args:
        runs: with something.
        found: of each run.
        caption: of the table.
    """
    header = ["value ± standard error", *named_runs(runs)]
    return table(header, list(measurement_rows(found)), caption=caption)


def measurement_rows(found: Found) -> Iterator[list[Content]]:
    """Name and unit, and the numbers of each run."""
    results = [one for one in found if one is not None]
    for name in dict.fromkeys(name for one in results for name in one.measurements):
        unit = next(one.measurements[name].unit for one in results if name in one.measurements)
        named = joined(tag("code", name), tag("span", unit, class_="of-unit") if unit else None)
        yield [named, *(_measured(one, name) for one in found)]


def _measured(found: Result | None, name: str) -> str:
    if found is None or name not in found.measurements:
        return "-"
    number = found.measurements[name]
    return f"{bound_mark(found, name)}{number_text(number.value, number.stderr)}"


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
