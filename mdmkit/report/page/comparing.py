"""What `mdmkit compare` finds, where the runs can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from mdmkit.comparison.compare import compare
from mdmkit.errors import MdmkitError
from mdmkit.report.comparison import comparison_tables
from mdmkit.report.page.markup import Content, Markup, joined, paragraph, table, tag
from mdmkit.report.page.reading import ReportedRun, Tell

_WORDS = ("level", "mask ratio")
"""Second columns that hold words."""


def comparison(runs: Sequence[ReportedRun], tell: Tell) -> Markup | None:
    """The tables, or why there are none; None for a single run."""
    if len(runs) < 2:
        return None
    places = [run.directory for run in runs]
    try:
        found = compare(places)
    except MdmkitError as error:
        tell(f"no comparison: {error}")
        words = paragraph("These runs cannot be compared:", class_="missing")
        return joined(words, tag("pre", tag("code", str(error)), class_="text", tabindex="0"))
    (circumstances, _), *tables = comparison_tables(found)
    parts: list[Content] = [
        paragraph(
            f"{circumstances}. The baseline is {found.baseline}; another one is chosen by ",
            tag("code", "mdmkit compare --baseline"),
            ".",
        )
    ]
    for title, rows in tables:
        parts.append(tag("h3", title[:1].upper() + title[1:]))
        if title == "notes":
            parts.append(tag("ul", *(tag("li", *row) for row in rows), class_="notes"))
        elif rows:
            left = 2 if rows[0][1] in _WORDS else 1
            parts.append(table(rows[0], rows[1:], caption=title, words=left))
    return joined(*parts)
