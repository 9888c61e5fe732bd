"""Who judges the text of a suite: ``--judge`` in words, and a judge that is opened but once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from mdmkit.errors import CheckpointError, DataError, MdmkitError, RecipeError
from mdmkit.evaluation.find_run import find_run, is_run, run_names
from mdmkit.problems import dotted
from mdmkit.protocols import EvaluationContext
from mdmkit.runs.folder import runs_root
from mdmkit.suggest import did_you_mean
from mdmkit.suite_sources import option_names
from mdmkit.suites import Suite

_COMPONENT = "evaluators.<label>.judge"  # what a judge calls its table, as in a recipe


def judge_table(judge: str, directory: Path, runs_dir: str | Path | None) -> dict[str, str]:
    """What ``--judge`` means, as the table `judge` of an evaluator.

    ``run:NAME`` is a run and ``model:ID`` a model; a word by itself is a run where there is one of
    that name, in the folder of runs or beside the run that is measured, else a model.

    Args:
        judge: the word.
        directory: of the run that is measured; a judge beside it is called by its name.
        runs_dir: the folder of runs, as in `evaluate_suite`.

    Raises:
        CheckpointError: for a run that cannot be found, or several of that name.
    """
    kind, _, name = judge.partition(":")
    if kind == "model" and name:
        return {"model": name}
    wanted = name if kind == "run" and name else judge
    folder = next((one for one in _folders(directory, runs_dir) if is_run(wanted, one)), None)
    if folder is None and wanted is judge:
        return {"model": judge}
    try:
        found = find_run(wanted, runs_dir if folder is None else folder)
    except CheckpointError as error:
        raise CheckpointError(f"--judge: {error}") from error
    beside = found.resolve().parent == directory.resolve().parent
    return {"run": found.name if beside else str(found.absolute())}


def _folders(directory: Path, runs_dir: str | Path | None) -> tuple[Path, Path]:
    """Where a judge's run may be."""
    return runs_root(runs_dir), directory.absolute().parent


def require_judges(suite: Suite) -> None:
    """Say what to do where an evaluator needs a judge and has none.

    Raises:
        RecipeError: naming the tables.
    """
    lacking = dict.fromkeys(
        dotted(suite.table_of(label)) for label, judge in _judges(suite) if _unset(judge)
    )
    if lacking:
        raise RecipeError(
            f"suite {suite.name}: [{'], ['.join(lacking)}] evaluator.judge: missing; name who "
            "judges the text: --judge RUN (a trained run) or --judge MODEL (a language model of "
            "the Hugging Face hub, or its folder)"
        )


def open_judges(
    suite: Suite,
    context: EvaluationContext,
    judge: str | None,
    directory: Path,
    runs_dir: str | Path | None,
) -> list[Any]:
    """Open each judge of a suite once; evaluators take those that are open.

    Args:
        suite: the sets that are wanted.
        context: of the run that is measured.
        judge: what ``--judge`` was given, None where the suite names its judges.
        directory, runs_dir: as for `judge_table`.

    Raises:
        CheckpointError, RecipeError, DataError: where one cannot be had, naming ``--judge``, else
            the tables that name it.
    """
    labels: dict[Any, list[str]] = {}
    for label, options in _judges(suite):
        if hasattr(options, "open"):
            labels.setdefault(options, []).append(label)
    opened = []
    for options, having in labels.items():
        try:
            opened.append(options.open(context))
        except MdmkitError as error:
            if judge is None:
                tables = dict.fromkeys(dotted(suite.table_of(label)) for label in having)
                where = f"suite {suite.name}: [{'], ['.join(tables)}] evaluator.judge"
                raise _said(error, where, "") from error
            hint = _no_such_run(judge, directory, runs_dir) if _is_model(options) else ""
            raise _said(error, f"--judge {judge}", hint) from error
    return opened


def _judges(suite: Suite) -> Iterator[tuple[str, Any]]:
    """Label and judge of each set that has one."""
    for label, entry in suite.sets.items():
        if "judge" in option_names(type(entry.evaluator)):
            yield label, getattr(entry.evaluator, "judge", None)


def _unset(judge: Any) -> bool:
    """Whether it is nobody: none, or one all of whose options are unset."""
    return judge is None or (attrs.has(type(judge)) and set(attrs.astuple(judge)) == {None})


def _is_model(judge: Any) -> bool:
    return getattr(judge, "model", None) is not None


def _no_such_run(judge: str, directory: Path, runs_dir: str | Path | None) -> str:
    """What a name that was taken for a model might have been."""
    if judge.startswith("model:") or Path(judge).expanduser().is_dir():
        return ""
    folders = dict.fromkeys(folder.resolve() for folder in _folders(directory, runs_dir))
    names = dict.fromkeys(name for folder in folders for name in run_names(folder))
    return f" (nor is there a run of that name{did_you_mean(judge, names)})"


def _said(error: MdmkitError, where: str, hint: str) -> MdmkitError:
    """The error with its place in front."""
    text = error.fact if isinstance(error, DataError) and hint else str(error)
    text = text.replace(f"{_COMPONENT}.", "").replace(f"{_COMPONENT}: ", "")
    kinds = (CheckpointError, DataError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), RecipeError)
    return kind(f"{where}: {text}{hint}")
