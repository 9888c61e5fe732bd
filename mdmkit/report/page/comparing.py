"""What `mdmkit compare` finds, where the runs can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mdmkit.comparison.comparable import require_comparable
from mdmkit.comparison.compare import compare_loaded
from mdmkit.comparison.groups import group_runs
from mdmkit.comparison.results import Comparison
from mdmkit.comparison.runs import LoadedRun
from mdmkit.comparison.settings import Settings
from mdmkit.data.cache import ignore
from mdmkit.errors import MdmkitError
from mdmkit.report.comparison import comparison_tables
from mdmkit.report.page.markup import Content, Markup, joined, paragraph, table, tag
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.run_files import Tell

_WORDS = ("level", "mask ratio")
"""Second columns that hold words."""
_UNREAD = "it has no recipe, metrics and validations by block that can all be read"


def comparison(runs: Sequence[ReportedRun], tell: Tell) -> Markup | None:
    """The tables of all runs that can be compared, and why others cannot; None for a single run."""
    if len(runs) < 2:
        return None
    groups, left_out = _groups(runs)
    parts: list[Content] = []
    for number, group in enumerate(groups, start=1):
        heading = f"Group {number} of {len(groups)}: {len(group)} runs validated alike"
        parts.append(tag("h3", heading) if len(groups) > 1 else None)
        found = compare_loaded(_loaded(group), Settings())
        parts += _tables(found, level=3 + (len(groups) > 1))
    for label, why in left_out.items():
        tell(f"{'left out of the comparison' if groups else 'no comparison'}: {label}: {why}")
    return joined(*parts, *_left_out(left_out, all_of_them=not groups))


def _groups(
    runs: Sequence[ReportedRun],
) -> tuple[list[list[ReportedRun]], dict[str, str]]:
    """The runs that can be compared with each other, two or more; and by label why others cannot.

    A run joins the first group that it is comparable with.
    """
    groups: list[list[ReportedRun]] = []
    left_out = {run.label: _UNREAD for run in runs if run.loaded is None}
    for run in runs:
        if run.loaded is None:
            continue
        fitting = next((group for group in groups if _refused(group, run) is None), None)
        if fitting is None:
            groups.append([run])
        elif (twice := _refused_seed(fitting, run)) is not None:
            left_out[run.label] = twice
        else:
            fitting.append(run)
    others = next((group for group in groups if len(group) > 1), groups[0] if groups else [])
    for group in groups:
        if len(group) == 1 and group is not others:
            left_out[group[0].label] = _refused(others, group[0]) or ""
    return [group for group in groups if len(group) > 1], left_out


def _refused(group: Sequence[ReportedRun], run: ReportedRun) -> str | None:
    """Why the run cannot be compared with these, or None."""
    try:
        require_comparable(_loaded([*group, run]))
    except MdmkitError as error:
        return str(error)
    return None


def _refused_seed(group: Sequence[ReportedRun], run: ReportedRun) -> str | None:
    """Why the run makes no method with these, or None: the same seed may be there already."""
    try:
        group_runs(_loaded([*group, run]), labels={}, notify=ignore)
    except MdmkitError as error:
        return str(error)
    return None


def _loaded(runs: Sequence[ReportedRun]) -> list[LoadedRun]:
    return [run.loaded for run in runs if run.loaded is not None]


def _left_out(reasons: Mapping[str, str], *, all_of_them: bool) -> Iterator[Markup]:
    if not reasons:
        return
    if all_of_them:
        yield paragraph("These runs cannot be compared:", class_="missing")
    else:
        yield paragraph("Left out, since they cannot be compared with the others:")
    for label, why in reasons.items():
        yield paragraph(label, class_="of")
        yield tag("pre", tag("code", why), class_="text", tabindex="0")


def _tables(found: Comparison, level: int) -> Iterator[Content]:
    (circumstances, _), *tables = comparison_tables(found)
    yield paragraph(
        f"{circumstances}. The baseline is {found.baseline}; another one is chosen by ",
        tag("code", "mdmkit compare --baseline"),
        ".",
    )
    for title, rows in tables:
        yield tag(f"h{level}", title[:1].upper() + title[1:])
        if title == "notes":
            yield tag("ul", *(tag("li", *row) for row in rows), class_="notes")
        elif rows:
            left = 2 if rows[0][1] in _WORDS else 1
            yield table(rows[0], rows[1:], caption=title, words=left)
