"""Does a suite's file still tell the truth? Measure again by the file alone, and compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import CheckpointError
from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.evaluate import Progress
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained
from mdmkit.evaluation.suite_file import SuiteRecord, read_record
from mdmkit.evaluation.suite_job import SuiteJob
from mdmkit.plugins import load_catalogue
from mdmkit.problems import dotted
from mdmkit.suites import suite_from_dict
from mdmkit.training.distributed import open_world, rank_zero_first
from mdmkit.values import Measurement

DECISIVE = frozenset(
    (
        "weights_sha256",
        "recipe_hash",
        "tokenizer_fingerprint",
        "corpus_fingerprint",
        "fingerprint",
        "sha256",
        "seed",
        "draws",
        "estimator",
        "blocks",
        "documents",
        "tokens",
        "tokens_scored",
        "questions",
        "packing",
        "detokenizer",
        "length",
        "precision",
    )
)
"""Keys of provenance at or below which all must be equal: else it is another measurement."""

_ROUNDING = 1e-6  # relative; what the order of summation may do


@frozen(kw_only=True)
class Comparison:
    """A number of the file and the same number now.

    Attributes:
        label, name: the set, and the measurement.
        recorded: in the file.
        found: now.
        alike: whether both were measured in the same circumstances (device, versions, processes).
    """

    label: str
    name: str
    recorded: Measurement
    found: Measurement
    alike: bool = True

    @property
    def bitwise(self) -> bool:
        """Whether value and error are the same, bit for bit."""
        return self.recorded == self.found

    @property
    def matches(self) -> bool:
        """Whether the number was found again.

        In the same circumstances the same masks on the same text give value and errors up to
        rounding. In others (another device, say) the value must be within the standard error.
        """
        pairs = [
            (self.recorded.value, self.found.value),
            (self.recorded.stderr, self.found.stderr),
            (self.recorded.draws_stderr or 0.0, self.found.draws_stderr or 0.0),
        ]
        if self.alike:
            return all(abs(new - old) <= _ROUNDING * abs(old) for old, new in pairs)
        allowed = max(self.recorded.stderr, _ROUNDING * abs(self.recorded.value))
        return abs(self.found.value - self.recorded.value) <= allowed


@frozen(kw_only=True)
class Replay:
    """What came of measuring again.

    Attributes:
        path: the file.
        comparisons: of every number of the file that could be measured again.
        differences: facts that make it another measurement, as ``set: key: old -> new``.
        circumstances: versions, devices and threads that differ, in the same form.
        missing: by label, why a set of the file could not be measured again.
    """

    path: Path
    comparisons: tuple[Comparison, ...]
    differences: tuple[str, ...]
    circumstances: tuple[str, ...]
    missing: Mapping[str, str]

    @property
    def matches(self) -> bool:
        """Whether every number of the file was found again, on the same weights and data."""
        return (
            not self.missing
            and not self.differences
            and bool(self.comparisons)
            and all(comparison.matches for comparison in self.comparisons)
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "file": str(self.path),
            "matches": self.matches,
            "numbers": [
                {
                    "set": entry.label,
                    "name": entry.name,
                    "recorded": entry.recorded.value,
                    "found": entry.found.value,
                    "stderr": entry.recorded.stderr,
                    "matches": entry.matches,
                    "bitwise": entry.bitwise,
                }
                for entry in self.comparisons
            ],
            "differences": list(self.differences),
            "circumstances": list(self.circumstances),
            "missing": dict(self.missing),
        }


def replay(
    file: str | Path,
    *,
    run: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    allow_missing: bool = False,
    device: str = "auto",
    runs_dir: str | Path | None = None,
    cache_dir: Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
) -> Replay:
    """Measure again what a suite's file says, by the file alone; nothing is written.

    Args:
        file: ``eval/<suite>.json`` of a run.
        run: the run, where the file has been moved out of its directory.
        sources: local files or folders by label, where the text has been moved.
        allow_missing: go on without the sets that cannot be had now.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        cache_dir: where tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.
        notify: is told what takes long.
        progress: called as ``progress(label, done, total)``.

    Raises:
        CheckpointError: for a file or run that cannot be read.
        RecipeError: for a suite that is not valid here (a plugin is missing, say).
        DataError: naming every set that cannot be had, unless `allow_missing`.
    """
    path = Path(file)
    record = read_record(path)
    if not record.sets:
        raise CheckpointError(f"{path}: holds no numbers, so there is nothing to repeat")
    directory = find_run(path.absolute().parent.parent if run is None else run, runs_dir)
    catalogue = load_catalogue()
    suite = suite_from_dict(record.suite, str(path), sources=sources or {}, catalogue=catalogue)
    settings = record.settings
    with open_world(device) as world:
        with rank_zero_first(world):
            trained = open_trained(
                directory,
                overrides=list(_assignments(settings["sampler"], ("sampler",))),
                tables=("sampler",),
                checkpoint=settings["checkpoint"],
                ema=settings["ema"],
                device=str(world.device),
                precision=settings["dtype"],
                notify=notify if world.rank == 0 else ignore,
                cache_dir=cache_dir,
                catalogue=catalogue,
            )
        job = SuiteJob.of(
            suite, trained, world, settings["seed"], settings["batch_size"], catalogue
        )
        now = job.run(
            only=list(record.sets),
            allow_missing=allow_missing,
            progress=progress if world.rank == 0 else None,
        )
    return _compared(path, record, now.results, now.missing)


def _compared(
    path: Path, record: SuiteRecord, results: Mapping[str, Result], missing: Mapping[str, str]
) -> Replay:
    comparisons: list[Comparison] = []
    differences: list[str] = []
    circumstances: list[str] = []
    for label, found in results.items():
        old = record.sets[label].result
        once = sorted(old.measurements.keys() ^ found.measurements.keys())
        differences += [f"{label}: {name}: measured only once" for name in once]
        before_circumstances = len(circumstances)
        for path_in, before, after in _changes(old.provenance, found.provenance, ()):
            line = f"{label}: {dotted(path_in)}: {json.dumps(before)} -> {json.dumps(after)}"
            if DECISIVE & set(path_in):
                differences.append(line)
            elif path_in[0] == "environment" or path_in in (("ranks",), ("batch_size",)):
                circumstances.append(line)
        alike = len(circumstances) == before_circumstances
        comparisons += [
            Comparison(
                label=label,
                name=name,
                recorded=number,
                found=found.measurements[name],
                alike=alike,
            )
            for name, number in old.measurements.items()
            if name in found.measurements
        ]
    return Replay(
        path=path,
        comparisons=tuple(comparisons),
        differences=tuple(differences),
        circumstances=tuple(circumstances),
        missing=missing,
    )


def _changes(
    before: Any, after: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The leaves that differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _changes(before.get(key), after.get(key), (*path, key))
    elif before != after:
        yield path, before, after


def _assignments(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table of a recipe as overrides."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, (*path, key))
        else:
            yield f"{dotted((*path, key))}={json.dumps(value)}"
