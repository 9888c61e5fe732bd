"""A trained run on the sets of a suite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import RecipeError
from mdmkit.evaluation.evaluate import Progress
from mdmkit.evaluation.run import find_run, is_run, open_trained
from mdmkit.evaluation.suite_file import record_path
from mdmkit.evaluation.suite_job import SuiteJob, SuiteResult
from mdmkit.plugins import load_catalogue
from mdmkit.problems import dotted
from mdmkit.recipe_files import parse_overrides
from mdmkit.suite_requests import select, shorthands
from mdmkit.suite_sources import option_names
from mdmkit.suites import Suite, load_suite
from mdmkit.training.distributed import open_world, rank_zero_first

TABLES = ("protocol", "sets", "grids", "title")


def evaluate_suite(
    run: str | Path,
    suite: str | Path = "zero_shot",
    *,
    overrides: Sequence[str] = (),
    preset: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    only: Collection[str] = (),
    allow_missing: bool = False,
    judge: str | None = None,
    split: str | None = None,
    draws: int | None = None,
    precision: float | None = None,
    checkpoint: int | None = None,
    ema: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    runs_dir: str | Path | None = None,
    cache_dir: Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
) -> SuiteResult:
    """Measure a trained run on every set of a suite, and keep the numbers in the run directory.

    All sets are opened before anything is measured. ``eval/<suite>.json`` (with a preset
    ``eval/<suite>-<preset>.json``) is written after each set, so that an interrupted suite goes
    on where it was; a set is measured again unless everything that decides its numbers is equal.
    Under torchrun every process calls this, and they share the work.

    Args:
        run: a run directory, or its name under the runs folder.
        suite: a TOML file, or the bare name of a shipped suite.
        overrides: changes to the suite's ``protocol``, ``sets`` and ``grids`` and to the run's
            ``sampler``, as for ``--set``.
        preset: a protocol to lay over the suite's: ``mdlm``, ``duo``, ``bd3lm``, or a file.
        sources: local files or folders by the label of the set that they are for.
        only: the labels of the sets that are wanted, or patterns; all by default.
        allow_missing: go on without the sets that cannot be had.
        judge: sets that option of every evaluator that has it: a run, or a model; see
            `judge_table`.
        split: sets that option of every evaluator that has it.
        draws: the same for the number of Monte-Carlo draws.
        precision: the same for the relative standard error at which drawing may stop.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        seed: of the evaluation; runs measured with equal seeds meet equal masks.
        batch_size: rows a network call.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: ``bf16`` or ``fp32``, of the network's forward; the run's own by default.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        cache_dir: where tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.
        notify: is told what takes long and what was written.
        progress: called as ``progress(label, done, total)``.

    Raises:
        RecipeError: for a suite, preset, override or option that is not valid.
        CheckpointError: for a run that cannot be read, or a file that cannot be written.
        DataError: naming every set that cannot be had, unless `allow_missing`.
    """
    directory = find_run(run, runs_dir)
    catalogue = load_catalogue()
    own, other = _sorted_overrides(overrides)
    read = partial(load_suite, suite, preset=preset, sources=sources, catalogue=catalogue)
    asked = read(own)
    common: dict[str, Any] = {"split": split, "draws": draws, "precision": precision}
    if judge is not None:
        common["judge"] = judge_table(judge, directory, runs_dir)
    short = shorthands(asked, common)
    if short:
        asked = read([*own, *short], replacing=[key for key in common if common[key] is not None])
    require_judges(select(asked, only) if only else asked)
    with open_world(device) as world:
        with rank_zero_first(world):
            trained = open_trained(
                directory,
                overrides=other,
                tables=("sampler",),
                checkpoint=checkpoint,
                ema=ema,
                device=str(world.device),
                precision=dtype,
                notify=notify if world.rank == 0 else ignore,
                cache_dir=cache_dir,
                catalogue=catalogue,
            )
        job = SuiteJob.of(asked, trained, world, seed, batch_size, catalogue)
        path = record_path(directory, asked.stem)
        return job.run(
            only=only,
            allow_missing=allow_missing,
            path=path,
            progress=progress if world.rank == 0 else None,
        )


def judge_table(judge: str, directory: Path, runs_dir: str | Path | None) -> dict[str, str]:
    """What ``--judge`` means, as the table `judge` of an evaluator.

    ``run:NAME`` is a run and ``model:ID`` a model; a word by itself is a run where there is one of
    that name, else a model.

    Args:
        judge: the word.
        directory: of the run that is measured; a judge beside it is called by its name.
        runs_dir: the folder of runs, as in `evaluate_suite`.

    Raises:
        CheckpointError: for a run that cannot be found.
    """
    kind, _, name = judge.partition(":")
    if kind == "model" and name:
        return {"model": name}
    if kind == "run" and name:
        found = find_run(name, runs_dir)
    elif is_run(judge, runs_dir):
        found = find_run(judge, runs_dir)
    else:
        return {"model": judge}
    beside = found.resolve().parent == directory.resolve().parent
    return {"run": found.name if beside else str(found.absolute())}


def require_judges(suite: Suite) -> None:
    """Say what to do where an evaluator needs a judge and has none.

    Raises:
        RecipeError: naming the tables.
    """
    lacking = dict.fromkeys(
        dotted(suite.table_of(label))
        for label, entry in suite.sets.items()
        if "judge" in option_names(type(entry.evaluator)) and _unset(entry.evaluator)
    )
    if lacking:
        raise RecipeError(
            f"suite {suite.name}: [{'], ['.join(lacking)}] evaluator.judge: missing; name who "
            "judges the text: --judge RUN (a trained run) or --judge MODEL (a language model of "
            "the Hugging Face hub, or its folder)"
        )


def _unset(evaluator: Any) -> bool:
    """Whether its judge is nobody: none, or one all of whose options are unset."""
    judge = evaluator.judge
    return judge is None or (attrs.has(type(judge)) and set(attrs.astuple(judge)) == {None})


def _sorted_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the suite, and those of the run's recipe."""
    own: list[str] = []
    other: list[str] = []
    for text in overrides:
        (table,) = parse_overrides([text]).data
        (own if table in TABLES else other).append(text)
    return own, other
