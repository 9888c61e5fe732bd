"""Runs to one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

import mdmkit
from mdmkit.errors import MdmkitError, MissingPackageError
from mdmkit.files import explained, write_atomic
from mdmkit.report.page.analyses import analyses
from mdmkit.report.page.by_mask_ratio import mask_ratio_section
from mdmkit.report.page.comparing import comparison
from mdmkit.report.page.document import Section, document
from mdmkit.report.page.evaluations import evaluations
from mdmkit.report.page.markup import Markup, joined, paragraph, tag
from mdmkit.report.page.reading import ReportedRun, read_runs
from mdmkit.report.page.recipes import recipes
from mdmkit.report.page.reproduce import reproduce
from mdmkit.report.page.run_files import Tell
from mdmkit.report.page.samples import samples
from mdmkit.report.page.summary import summary
from mdmkit.report.page.system import system
from mdmkit.report.page.training_curves import curves


@frozen(kw_only=True)
class Report:
    """A page.

    Attributes:
        html: the whole of it.
        problems: what could not be read or compared, one sentence each; the page says so, too.
    """

    html: str
    problems: Sequence[str]


def write_report(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    runs_dir: str | Path | None = None,
    notify: Callable[[str], object] = lambda _: None,
) -> Path:
    """Write a report of runs, replacing a file that is there.

    Args:
        runs: run directories or names, folders of runs, or a name that several runs share.
        out: the file.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        notify: is told of what could not be read or compared.

    Raises:
        CheckpointError: for a name that means no run, or where the file cannot be written.
        MissingPackageError: without plotly.
    """
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise MdmkitError(
            f"--out: expected a file in a folder that is there, got {path}; "
            + ("give it a name" if path.is_dir() else f"make {path.parent} first")
        )
    made = make_report(runs, runs_dir=runs_dir, out=path.name)
    for problem in made.problems:
        notify(problem)
    with explained(path, "make room, or choose another place with --out"):
        write_atomic(path, made.html)
    return path


def make_report(
    runs: Sequence[str | Path], *, runs_dir: str | Path | None = None, out: str = "report.html"
) -> Report:
    """The report of runs as one page that needs no network.

    Args:
        runs, runs_dir: as for `write_report`.
        out: the file name that the page's own commands say.

    Raises:
        CheckpointError, MissingPackageError: as `write_report` does.
    """
    if find_spec("plotly") is None:
        raise MissingPackageError("mdmkit report", "plotly", extra="plot")
    problems: list[str] = []
    elsewhere: list[str] = []  # what the page says in its place
    read = read_runs(runs, runs_dir, problems.append)
    sections = _sections(read, elsewhere.append, out)
    problems = list(dict.fromkeys(problems))
    names = ", ".join(run.label for run in read[:4]) + (" and others" if len(read) > 4 else "")
    found = _problems(problems)
    return Report(
        html=document(f"mdmkit report: {names}", names, [*sections[:1], *found, *sections[1:]]),
        problems=[*problems, *elsewhere],
    )


def _sections(runs: Sequence[ReportedRun], aside: Tell, out: str) -> list[Section]:
    import plotly
    import torch

    here = {
        "mdmkit": mdmkit.__version__,
        "torch": torch.__version__,
        "plotly": plotly.__version__,
    }
    found = [
        ("summary", "Overview", summary(runs)),
        ("recipe", "The recipe", recipes(runs)),
        ("curves", "Curves", curves(runs)),
        ("comparison", "Comparison", comparison(runs, aside)),
        ("mask-ratio", "Loss by mask ratio", mask_ratio_section(runs)),
        ("analyses", "Analyses", analyses(runs)),
        ("evaluations", "Evaluations", evaluations(runs)),
        ("samples", "Samples", samples(runs)),
        ("system", "System", system(runs)),
        ("reproduce", "Reproduce this", reproduce(runs, out, here)),
    ]
    return [
        Section(name=name, title=title, content=content)
        for name, title, content in found
        if content is not None
    ]


def _problems(problems: Sequence[str]) -> list[Section]:
    if not problems:
        return []
    words = tag("ul", *(tag("li", problem) for problem in problems), class_="problems")
    said: Markup = joined(paragraph("The rest of the page is made without this:"), words)
    return [Section(name="problems", title="What could not be read", content=said)]
