"""A trained run on the sets of a suite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mdmkit.data.cache import Notify, ignore
from mdmkit.evaluation.evaluate import Progress
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.judges import judge_table, open_judges, require_judges
from mdmkit.evaluation.run import open_trained
from mdmkit.evaluation.suite_file import record_path
from mdmkit.evaluation.suite_job import SuiteJob, SuiteResult
from mdmkit.plugins import load_catalogue
from mdmkit.recipe_files import parse_overrides
from mdmkit.suite_requests import select, shorthands
from mdmkit.suites import load_suite
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
            `mdmkit.evaluation.judges.judge_table`.
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
        judges: list[Any] = []
        if judge is not None or not allow_missing:
            with rank_zero_first(world):
                judges += open_judges(job.wanted(only), job.context, judge, directory, runs_dir)
        found = job.run(
            only=only,
            allow_missing=allow_missing,
            path=path,
            progress=progress if world.rank == 0 else None,
        )
        del judges  # the evaluators take those that are open
        return found


def _sorted_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the suite, and those of the run's recipe."""
    own: list[str] = []
    other: list[str] = []
    for text in overrides:
        (table,) = parse_overrides([text]).data
        (own if table in TABLES else other).append(text)
    return own, other
