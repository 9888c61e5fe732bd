"""What evaluators and suites found, with errors and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.suite_file import SuiteRecord
from mdmkit.report.page.drawing import drawn, together
from mdmkit.report.page.markup import Content, Markup, joined, missing, paragraph, table, tag
from mdmkit.report.page.measurements import (
    measurement_rows,
    measurement_table,
    named_runs,
    provenance,
)
from mdmkit.report.page.plots import plain_name
from mdmkit.report.page.reading import ReportedRun


def evaluations(runs: Sequence[ReportedRun]) -> Markup:
    """A table for each evaluator and each suite, a column for each run."""
    place = runs[0].directory.name
    parts = [*_evaluators(runs), *_suites(runs)]
    if not parts:
        what = "No evaluation has been made yet."
        return missing(what, f"mdmkit eval {place}", f"mdmkit eval {place} --zero-shot")
    if not any(run.suites for run in runs):
        parts.append(
            missing("No benchmark suite was measured.", f"mdmkit eval {place} --zero-shot")
        )
    return joined(*parts)


def _evaluators(runs: Sequence[ReportedRun]) -> Iterator[Markup]:
    for label in dict.fromkeys(label for run in runs for label in run.evaluations):
        having = [(run, run.evaluations[label]) for run in runs if label in run.evaluations]
        names, found = [run for run, _ in having], [one for _, one in having]
        yield tag("h3", label)
        caption = f"Evaluator {label}"
        yield measurement_table(names, found, caption=caption)
        yield from _pictures(label, having)
        yield provenance(names, [one.provenance for one in found], of=label)


def _pictures(label: str, having: Sequence[tuple[ReportedRun, Result]]) -> Iterator[Markup]:
    for key in dict.fromkeys(key for _, one in having for key in one.pictures):
        pictures = [
            drawn(run, {"": one.pictures[key]}) for run, one in having if key in one.pictures
        ]
        yield together(plain_name("evaluation", label, key), pictures, level=4)


def _suites(runs: Sequence[ReportedRun]) -> Iterator[Markup]:
    for label in dict.fromkeys(label for run in runs for label in run.suites):
        having = [(run, run.suites[label]) for run in runs if label in run.suites]
        yield tag("h3", f"Suite {label}")
        yield from _suite(label, having)


def _suite(label: str, having: Sequence[tuple[ReportedRun, SuiteRecord]]) -> Iterator[Markup]:
    sets = list(dict.fromkeys(name for _, one in having for name in one.sets))
    rows: list[Sequence[Content]] = []
    for name in sets:
        found = [one.sets[name].result if name in one.sets else None for _, one in having]
        rows += [[name, *row] for row in measurement_rows(found)]
    header = ["set", "value ± standard error", *named_runs([run for run, _ in having])]
    yield table(header, rows, caption=f"Suite {label}", words=2)
    for run, one in having:
        for name, why in one.missing.items():
            yield paragraph(f"{run.label}: {name} is missing: {why}", class_="missing")
    for name in sets:
        measured = [(run, one.sets[name].result) for run, one in having if name in one.sets]
        facts = [result.provenance for _, result in measured]
        yield provenance([run for run, _ in measured], facts, of=name)
