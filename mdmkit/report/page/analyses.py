"""What ``mdmkit analyze`` found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mdmkit.evaluation.analysis_files import Analysis
from mdmkit.report.page.drawing import Drawn, drawn, together
from mdmkit.report.page.markup import Markup, joined, missing, tag
from mdmkit.report.page.measurements import measurement_table, provenance
from mdmkit.report.page.plots import plain_name
from mdmkit.report.page.reading import ReportedRun
from mdmkit.values import HeatMap, Picture


def analyses(runs: Sequence[ReportedRun]) -> Markup:
    """Every analysis that any of the runs has."""
    labels = list(dict.fromkeys(label for run in runs for label in run.analyses))
    if not labels:
        what = "No run has been analysed yet."
        return missing(what, f"mdmkit analyze {runs[0].directory.name}")
    return joined(*(part for label in labels for part in _analysis(label, runs)))


def _analysis(label: str, runs: Sequence[ReportedRun]) -> Iterator[Markup]:
    having = [run for run in runs if label in run.analyses]
    last = [run.analyses[label].last for run in having]
    yield tag("h3", label.replace("_", " ").capitalize())
    for key in dict.fromkeys(key for run in having for key, _ in _by_step(run.analyses[label])):
        yield together(
            plain_name("analysis", label, key), list(_of_runs(key, label, having)), level=4
        )
    yield measurement_table(having, last, caption=f"Numbers of {label}")
    yield provenance(having, [one.provenance for one in last], of=label)


def _of_runs(key: str, label: str, runs: Sequence[ReportedRun]) -> Iterator[Drawn]:
    for run in runs:
        pictures = dict(_by_step(run.analyses[label])).get(key)
        if pictures:
            yield drawn(run, pictures)


def _by_step(analysis: Analysis) -> Iterator[tuple[str, Mapping[str, Picture | HeatMap]]]:
    """The pictures of an analysis by their name; each by what its step is called."""
    results = analysis.steps
    for key in dict.fromkeys(key for result in results.values() for key in result.pictures):
        yield (
            key,
            {
                f"step {step:,}": result.pictures[key]
                for step, result in results.items()
                if key in result.pictures
            },
        )
    for key, picture in analysis.over_training.items():
        yield f"{key} over training", {"": picture}
