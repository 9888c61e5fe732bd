"""What evaluators and suites found, with errors and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.page.markup import Content, Markup, joined, missing, paragraph, table, tag
from mdmkit.report.page.measurements import (
    measured,
    measurement_table,
    named_runs,
    provenance,
)
from mdmkit.report.page.reading import ReportedRun, Tell

_SUITE = "mdmkit suite"
_HEADLINES = ("ppl", "nelbo_per_token", "bits_per_byte", "accuracy")


def evaluations(runs: Sequence[ReportedRun], tell: Tell) -> Markup:
    """A table for each evaluator and each suite, a column for each run."""
    labels = list(dict.fromkeys(label for run in runs for label in run.evaluations))
    place = runs[0].directory.name
    parts: list[Markup] = []
    for label in labels:
        having = [run for run in runs if _usable(run, label, tell)]
        if having:
            suite = _is_suite(having[0].evaluations[label])
            having = [run for run in having if _is_suite(run.evaluations[label]) == suite]
            parts += _suite(label, having) if suite else _evaluator(label, having)
    if not parts:
        return missing(
            "No evaluation has been made yet.",
            f"mdmkit eval {place}",
            f"mdmkit eval {place} --zero-shot",
        )
    if not any(_is_suite(run.evaluations[label]) for run in runs for label in run.evaluations):
        parts.append(missing("No benchmark suite was measured.", f"mdmkit eval {place} --zero-shot"))
    return joined(*parts)


def _is_suite(plain: object) -> bool:
    return isinstance(plain, Mapping) and plain.get("kind") == _SUITE


def _usable(run: ReportedRun, label: str, tell: Tell) -> bool:
    """Whether a file is one that we know; what else there is, is said."""
    if label not in run.evaluations:
        return False
    plain = run.evaluations[label]
    if isinstance(plain, Mapping):
        tables = plain.get("sets") if _is_suite(plain) else {label: plain}
        if isinstance(tables, Mapping) and all(map(_is_result, tables.values())):
            return True
    tell(f"{run.directory / 'eval' / label}.json: holds no results; the report leaves it out")
    return False


def _is_result(plain: object) -> bool:
    return isinstance(plain, Mapping) and all(
        isinstance(plain.get(key), Mapping) for key in ("measurements", "provenance")
    )


def _evaluator(label: str, runs: Sequence[ReportedRun]) -> Iterator[Markup]:
    found = [run.evaluations[label] for run in runs]
    yield tag("h3", label)
    numbers = [one["measurements"] for one in found]
    yield measurement_table(runs, numbers, caption=f"Evaluator {label}")
    yield provenance(runs, [one["provenance"] for one in found], of=label)


def _suite(label: str, runs: Sequence[ReportedRun]) -> Iterator[Markup]:
    found: list[Mapping[str, Any]] = [run.evaluations[label] for run in runs]
    yield tag("h3", f"Suite {label}")
    sets = list(dict.fromkeys(name for one in found for name in one["sets"]))
    rows: list[Sequence[Content]] = []
    for name in sets:
        results = [one["sets"].get(name, {}).get("measurements", {}) for one in found]
        keys = list(dict.fromkeys(key for result in results for key in result))
        keys.sort(key=lambda key: _HEADLINES.index(key) if key in _HEADLINES else len(_HEADLINES))
        for key in keys:
            units = [result[key].get("unit") for result in results if key in result]
            cells = [measured(result.get(key)) for result in results]
            rows.append([name, tag("code", key), str(units[0] or ""), *cells])
    header = ["set", "number ± standard error", "unit", *named_runs(runs)]
    yield table(header, rows, caption=f"Suite {label}", words=3)
    for run, one in zip(runs, found, strict=True):
        left_out = one.get("missing")
        for name, why in left_out.items() if isinstance(left_out, Mapping) else ():
            yield paragraph(f"{run.label}: {name} is missing: {why}", class_="missing")
    for name in sets:
        having = [pair for pair in zip(runs, found, strict=True) if name in pair[1]["sets"]]
        facts = [one["sets"][name]["provenance"] for _, one in having]
        yield provenance([run for run, _ in having], facts, of=name)
