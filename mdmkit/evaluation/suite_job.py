"""A suite and an open run brought together: every set measured, and kept as it is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from mdmkit.evaluation.contexts import trained_context
from mdmkit.evaluation.driver import Result, measure
from mdmkit.evaluation.evaluate import (
    Progress,
    labelled,
    with_circumstances,
)
from mdmkit.evaluation.run import TrainedRun
from mdmkit.evaluation.suite_file import (
    SetRecord,
    SuiteRecord,
    hashed,
    read_record,
    settings_hash,
    write_record,
)
from mdmkit.evaluation.suite_sets import (
    ReadySet,
    applicable,
    missing_error,
    none_applies,
    open_sets,
    resolve,
    same_everywhere,
)
from mdmkit.files import explained
from mdmkit.plugins import Catalogue
from mdmkit.protocols import EvaluationContext
from mdmkit.recipe import dump_recipe
from mdmkit.suite_requests import chosen
from mdmkit.suites import Suite, dump_suite
from mdmkit.training.distributed import World, rank_zero_first


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


@frozen(kw_only=True, eq=False)
class SuiteJob:
    """A suite, resolved for a run that is open.

    Attributes:
        suite: the suite.
        plain: the same as plain data.
        trained, world, context: the run, and in which context its sets are measured.
        facts: of the weights, for provenance.
        settings: with which it is measured, as the file keeps them.
        left_out: the labels of the sets whose evaluators are not for this run.
    """

    suite: Suite
    plain: Mapping[str, Any]
    trained: TrainedRun
    world: World
    context: EvaluationContext
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    left_out: Sequence[str]

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
        whole = resolve(applicable(suite, trained.recipe), trained.recipe)
        context = trained_context(
            trained, rank=world.rank, world_size=world.size, batch_size=batch_size, seed=seed
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
            left_out=[label for label in suite.sets if label not in whole.sets],
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
            only: the labels of the sets that are wanted, or patterns; all by default.
            allow_missing: go on without the sets that cannot be had.
            path: the file, also read for what is measured already; None: nothing is kept.
            progress: called as ``progress(label, done, total)``.
        """
        wanted = self.wanted(only)
        others = [label for label in self._labels(only) if label in self.left_out]
        if others:
            self.trained.notify(f"{self.suite.named(others)}: left out, not for this kind of run")
        earlier, stale = self.world.share(self._earlier(path))
        ready, missing = self._open(wanted, allow_missing)
        data = self.world.share({label: hashed(one.opened()) for label, one in ready.items()})
        same = self._same(path, earlier, stale, data, missing)
        record = SuiteRecord(
            suite=self.plain,
            settings=self.settings,
            run=self.facts["run"],
            sets=self._in_order(same),
            missing=missing,
        )
        kept = [label for label in ready if label in same]
        if same:
            self._write(path, record)
        for label in list(ready):
            opened = ready.pop(label)  # what a set needs is free again once it is done
            if label not in kept:
                new = self._record(opened, data[label], progress)
                record = attrs.evolve(record, sets=self._in_order({**record.sets, label: new}))
                self._write(path, record)
        self._tell(kept, path)
        return SuiteResult(
            directory=self.trained.directory,
            suite=wanted,
            record=record,
            results={k: record.sets[k].result for k in wanted.sets if k in record.sets},
            missing=missing,
            kept=kept,
            path=path,
        )

    def _open(
        self, wanted: Suite, allow_missing: bool
    ) -> tuple[dict[str, ReadySet], dict[str, str]]:
        """The sets that are ready, and for the others why they cannot be had."""
        with rank_zero_first(self.world):
            ready, missing = open_sets(wanted, self.trained, self.context)
        same_everywhere(self.world.gather(missing))
        if missing and not (allow_missing and ready):
            raise missing_error(wanted, missing)
        return ready, missing

    def _tell(self, kept: Sequence[str], path: Path | None) -> None:
        if kept:
            self.trained.notify(
                f"{self.suite.named(kept)}: kept, for the same was measured before; remove {path} "
                "to measure anew"
            )
        if path is not None:
            self.trained.notify(f"{path}: written")

    def wanted(self, only: Collection[str]) -> Suite:
        """The sets that are asked for and are for this run.

        Raises:
            RecipeError: where there are none.
        """
        labels = self._labels(only)
        kept = {label: entry for label, entry in self.suite.sets.items() if label in labels}
        if not kept:
            raise none_applies(self.suite, labels)
        return attrs.evolve(self.suite, sets=kept)

    def _labels(self, only: Collection[str]) -> list[str]:
        """Those that are asked for, whether or not they are for this run."""
        every = [*self.suite.sets, *self.left_out]
        return chosen(self.suite, every, only) if only else every

    def _record(self, opened: ReadySet, data: str, progress: Progress | None) -> SetRecord:
        """The numbers of a set, measured now."""
        result = self._measure(opened, progress)
        return SetRecord(result=result, settings=self._settings_hash(opened.label), data=data)

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

    def _earlier(self, path: Path | None) -> tuple[dict[str, SetRecord], list[str]]:
        """What the file holds of this very measurement (as far as that is known without data).

        Also the labels of what was measured otherwise. Other ranks than the first do not look.
        """
        if path is None or not path.exists() or self.world.rank > 0:
            return {}, []
        same, stale = {}, []
        for label, old in read_record(path).sets.items():
            if label in self.suite.sets and old.settings == self._settings_hash(label):
                same[label] = old
            else:
                stale.append(label)
        return same, stale

    def _same(
        self,
        path: Path | None,
        earlier: Mapping[str, SetRecord],
        stale: Sequence[str],
        data: Mapping[str, str],
        missing: Collection[str],
    ) -> dict[str, SetRecord]:
        """What of `earlier` was also measured on the data that is there now; the rest is set aside.

        That of sets that are not wanted now is trusted.
        """
        same = {
            label: old
            for label, old in earlier.items()
            if label not in missing and data.get(label, old.data) == old.data
        }
        other = [*stale, *(label for label in earlier if label not in same)]
        if other and path is not None:
            self._set_aside(path, other)
        return same

    def _set_aside(self, path: Path, stale: Collection[str]) -> None:
        """Numbers of other settings are never lost: each file that is replaced gets a name."""
        aside, number = path.with_suffix(".previous.json"), 2
        while aside.exists():
            aside, number = path.with_suffix(f".previous-{number}.json"), number + 1
        if self.world.rank == 0:
            with explained(path, "make room, and evaluate again"):
                path.replace(aside)
        self.trained.notify(
            f"{self.suite.named(stale)}: measured otherwise before; those numbers are now in "
            f"{aside}"
        )

    def _write(self, path: Path | None, record: SuiteRecord) -> None:
        if path is not None and self.world.rank == 0:
            write_record(path, record)

    def _settings_hash(self, label: str) -> str:
        facts = {**self.facts, "sampler": self.settings["sampler"]}
        return settings_hash(
            self.plain["sets"][label], facts, self.context.seed, self.context.device
        )

    def _in_order(self, sets: Mapping[str, SetRecord]) -> dict[str, SetRecord]:
        return {label: sets[label] for label in self.suite.sets if label in sets}
