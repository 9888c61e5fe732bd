"""A trained run on the sets of a suite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from mdmkit.data.cache import Notify, ignore
from mdmkit.evaluation.driver import Result, measure
from mdmkit.evaluation.evaluate import (
    Progress,
    evaluation_context,
    labelled,
    with_circumstances,
)
from mdmkit.evaluation.run import TrainedRun, find_run, open_trained
from mdmkit.evaluation.suite_file import (
    SetRecord,
    SuiteRecord,
    hashed,
    read_record,
    record_path,
    settings_hash,
    write_record,
)
from mdmkit.evaluation.suite_sets import (
    ReadySet,
    missing_error,
    open_sets,
    resolve,
    same_everywhere,
)
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.protocols import EvaluationContext
from mdmkit.recipe import dump_recipe
from mdmkit.recipe_files import parse_overrides
from mdmkit.suites import Suite, dump_suite, load_suite, select, shorthands
from mdmkit.training.distributed import World, open_world, rank_zero_first

TABLES = ("protocol", "sets", "title")


@frozen(kw_only=True)
class SuiteResult:
    """What a run came to on a suite.

    Attributes:
        directory: of the run.
        suite: that was measured, resolved for the run.
        record: the same as plain data, with the numbers; what the file holds.
        results: of the sets that were asked for, by label.
        missing: by label, why a set could not be had.
        kept: the labels whose numbers are from an earlier measurement of the same.
        path: the file, or None where nothing was written.
    """

    directory: Path
    suite: Suite
    record: SuiteRecord
    results: Mapping[str, Result]
    missing: Mapping[str, str]
    kept: Collection[str] = ()
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What the file holds, as plain JSON."""
        return self.record.to_json()


def evaluate_suite(
    run: str | Path,
    suite: str | Path = "zero_shot",
    *,
    overrides: Sequence[str] = (),
    preset: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    only: Collection[str] = (),
    allow_missing: bool = False,
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
        overrides: changes to the suite's ``protocol`` and ``sets`` and to the run's ``sampler``,
            as for ``--set``.
        preset: a protocol to lay over the suite's: ``mdlm``, ``duo``, ``bd3lm``, or a file.
        sources: local files or folders by the label of the set that they are for.
        only: the labels of the sets that are wanted; all by default.
        allow_missing: go on without the sets that cannot be had.
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
    common = {"split": split, "draws": draws, "precision": precision}
    short = shorthands(asked, common)
    if short:
        asked = read([*own, *short])
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
        path = record_path(directory, asked.name, asked.preset)
        return job.run(
            only=only,
            allow_missing=allow_missing,
            path=path,
            progress=progress if world.rank == 0 else None,
        )


def _sorted_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the suite, and those of the run's recipe."""
    own: list[str] = []
    other: list[str] = []
    for text in overrides:
        (table,) = parse_overrides([text]).data
        (own if table in TABLES else other).append(text)
    return own, other


@frozen(kw_only=True, eq=False)
class SuiteJob:
    """A suite, resolved for a run that is open.

    Attributes:
        suite: the suite.
        plain: the same as plain data.
        trained, world, context: the run, and in which context its sets are measured.
        facts: of the weights, for provenance.
        settings: with which it is measured, as the file keeps them.
    """

    suite: Suite
    plain: Mapping[str, Any]
    trained: TrainedRun
    world: World
    context: EvaluationContext
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        suite: Suite,
        trained: TrainedRun,
        world: World,
        seed: int,
        batch_size: int | None,
        catalogue: Catalogue,
    ) -> SuiteJob:
        """Bring suite and run together.

        Raises:
            RecipeError: where they do not fit.
        """
        whole = resolve(suite, trained.recipe)
        context = evaluation_context(
            trained.recipe,
            trained.live,
            trained.tokenizer,
            call=trained.call,
            blocks=trained.blocks,
            device=trained.device,
            rank=world.rank,
            world_size=world.size,
            batch_size=batch_size,
            seed=seed,
        )
        settings = {
            "seed": seed,
            "checkpoint": trained.step,
            "ema": trained.ema,
            "dtype": trained.precision,
            "batch_size": context.batch_size,
            "sampler": dump_recipe(trained.recipe, catalogue)["sampler"],
        }
        return cls(
            suite=whole,
            plain=dump_suite(whole, catalogue),
            trained=trained,
            world=world,
            context=context,
            facts={**trained.facts, "weights_sha256": trained.weights_sha256()},
            settings=settings,
        )

    def run(
        self,
        *,
        only: Collection[str] = (),
        allow_missing: bool = False,
        path: Path | None = None,
        progress: Progress | None = None,
    ) -> SuiteResult:
        """Measure the sets, and write the file after each.

        Args:
            only: the labels of the sets that are wanted; all by default.
            allow_missing: go on without the sets that cannot be had.
            path: the file, also read for what is measured already; None: nothing is kept.
            progress: called as ``progress(label, done, total)``.
        """
        wanted = select(self.suite, only) if only else self.suite
        earlier = self._earlier(path, wanted)
        with rank_zero_first(self.world):
            ready, missing = open_sets(wanted, self.trained, self.context)
        same_everywhere(self.world.gather(missing))
        if missing and not (allow_missing and ready):
            raise missing_error(wanted.name, len(wanted.sets), missing)
        record = SuiteRecord(
            suite=self.plain,
            settings=self.settings,
            run=self.facts["run"],
            sets={label: entry for label, entry in earlier.items() if label not in wanted.sets},
            missing=missing,
        )
        for label in earlier.keys() & missing.keys():
            self.trained.notify(f"{path}: what it says of {label} cannot be verified; dropped")
        kept: list[str] = []
        for label in list(ready):
            opened = ready.pop(label)  # what a set needs is free again once it is done
            data = hashed(opened.opened())
            old = earlier.get(label)
            if old is not None and old.data == data:
                kept.append(label)
                self.trained.notify(
                    f"{label}: kept; the same was measured before ({path}; remove it to measure "
                    "anew)"
                )
                new = old
            else:
                result = self._measure(opened, progress)
                new = SetRecord(result=result, settings=self._settings_hash(label), data=data)
            record = attrs.evolve(record, sets=self._in_order({**record.sets, label: new}))
            if path is not None and self.world.rank == 0:
                write_record(path, record)
        if path is not None:
            self.trained.notify(f"{path}: written")
        return SuiteResult(
            directory=self.trained.directory,
            suite=wanted,
            record=record,
            results={
                label: record.sets[label].result for label in wanted.sets if label in record.sets
            },
            missing=missing,
            kept=kept,
            path=path,
        )

    def _measure(self, opened: ReadySet, progress: Progress | None) -> Result:
        label = opened.label
        found = measure(opened.evaluation, label=label, progress=labelled(progress, label))
        facts = {
            "suite": self.suite.name,
            "preset": self.suite.preset,
            "set": self.plain["sets"][label],
            **self.facts,
        }
        if opened.sources and "data" not in found.provenance:
            facts["data"] = opened.opened()["blocks"]
        return with_circumstances(found, opened.context, facts)

    def _earlier(self, path: Path | None, wanted: Suite) -> dict[str, SetRecord]:
        """What the file holds of this very measurement, as far as that is known without data."""
        found: dict[str, SetRecord] = {}
        if path is not None and path.exists() and self.world.rank == 0:
            for label, old in read_record(path).sets.items():
                same = label in self.suite.sets and old.settings == self._settings_hash(label)
                if same:
                    found[label] = old
                elif label not in wanted.sets:
                    self.trained.notify(
                        f"{path}: what it says of {label} was measured otherwise; dropped"
                    )
        return self.world.share(found)

    def _settings_hash(self, label: str) -> str:
        facts = {**self.facts, "sampler": self.settings["sampler"]}
        return settings_hash(
            self.plain["sets"][label], facts, self.context.seed, self.context.device
        )

    def _in_order(self, sets: Mapping[str, SetRecord]) -> dict[str, SetRecord]:
        return {label: sets[label] for label in self.suite.sets if label in sets}
