"""What ``mdmkit eval --suite`` prints and writes: decided by what a suite is, not by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mdmkit.cli.options import print_json
from mdmkit.cli.side import prints, said, side
from mdmkit.errors import RecipeError

if TYPE_CHECKING:
    from mdmkit.evaluation.suite_job import SuiteResult
    from mdmkit.suites import Suite


def evaluate_suites(
    runs: Sequence[str],
    names: Sequence[str],
    sources: Mapping[str, str],
    options: Mapping[str, Any],
    as_json: bool,
    out: Path | None,
) -> None:
    """Every run on every suite, in one table a suite."""
    from mdmkit.evaluation.suite import evaluate_suite
    from mdmkit.report.counting import counting
    from mdmkit.report.frontier_files import require_folder
    from mdmkit.suite_sources import share_sources
    from mdmkit.suites import load_suite

    aside = side()
    suites = [load_suite(name) for name in names]
    _require_different(runs, options["runs_dir"])
    if out is not None:
        _require_grids(suites)
        require_folder(out)
    shares = share_sources(sources, [suite.tables for suite in suites])
    entries: list[dict[str, Any]] = []
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        found = []
        for run in runs:
            with counting(aside) as progress:
                found.append(
                    evaluate_suite(
                        run, name, sources=share, **options, notify=said(aside), progress=progress
                    )
                )
        if not prints():
            continue
        if as_json:
            entries += plain(found)
        else:
            typer.echo("\n" * bool(number), nl=False)
            show(found)
        if out is not None:
            write(out, found)
    if entries:
        print_json(entries[0] if len(entries) == 1 else entries)


def _require_different(runs: Sequence[str], runs_dir: str | Path | None) -> None:
    from mdmkit.evaluation.find_run import find_run

    known: dict[Path, str] = {}
    for run in runs:
        directory = find_run(run, runs_dir).resolve()
        if directory in known:
            raise RecipeError(f"RUN: {known[directory]} and {run} are the same; name it once")
        known[directory] = run


def _require_grids(suites: Sequence[Suite]) -> None:
    if not any(suite.grids for suite in suites):
        raise RecipeError(
            f"--out: there are no grids in suite {', '.join(suite.name for suite in suites)}, and "
            "so no frontier; its numbers are in eval/ of the run"
        )


def show(results: Sequence[SuiteResult]) -> None:
    """Print what the runs came to on one suite: a frontier where it has grids of samplers."""
    from rich.console import Console

    from mdmkit.comparison.frontier import Frontier, has_frontier
    from mdmkit.report.frontier import print_frontier
    from mdmkit.report.suite_table import print_suite

    if has_frontier(results):
        print_frontier(Console(), Frontier.of(results), results)
    else:
        print_suite(Console(), results)


def plain(results: Sequence[SuiteResult]) -> list[dict[str, Any]]:
    """The same as plain JSON: a record a run, or one frontier with all of them."""
    from mdmkit.comparison.frontier import Frontier, has_frontier

    records = [result.to_json() for result in results]
    if not has_frontier(results):
        return records
    return [{**Frontier.of(results).to_json(), "runs": records}]


def write(folder: Path, results: Sequence[SuiteResult]) -> None:
    """Write the frontier into `folder`, or say that the suite has none.

    Raises:
        CheckpointError: where a file cannot be written.
    """
    from mdmkit.comparison.frontier import Frontier, has_frontier
    from mdmkit.report.frontier_files import write_frontier

    suite = results[0].suite
    if not has_frontier(results):
        typer.echo(
            f"{folder}: nothing is written of suite {suite.name}, for there is no frontier without "
            "sets of a grid in which text is generated and judged",
            err=True,
        )
        return
    (numbers,) = plain(results)
    for path in write_frontier(folder, suite.stem, Frontier.of(results), numbers):
        typer.echo(f"{path}: written", err=True)
