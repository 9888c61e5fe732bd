"""Runs to methods: which runs are the same thing tried again, and what a method is called."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import groupby, pairwise, takewhile
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from mdmkit.comparison.runs import LoadedRun
from mdmkit.errors import MdmkitError
from mdmkit.problems import dotted
from mdmkit.suggest import did_you_mean

Key = tuple[str, ...]
Leaves = dict[Key, Any]

# What does not change what is trained.
ASIDE: frozenset[Key] = frozenset(
    {("run",), ("evaluators",), ("trackers",), ("sampler",), ("parallel",)}
    | {("train", key) for key in ("micro_batch_size", "log_every", "diagnose_every")}
    | {("train", key) for key in ("checkpoint_every", "keep_checkpoints")}
    | {("train", key) for key in ("keep_every", "checkpoints_in_flight")}
)
ENVELOPE: frozenset[Key] = frozenset({("learning_rate", "peak")})
COOLED: frozenset[Key] = frozenset(
    {("train", "steps")}
    | {("learning_rate", key) for key in ("shape", "decay_fraction", "final_fraction")}
)
_SHORTEST_NAME = 3  # keys that a label may name before the recipe's hash says it better
_SEED_AT_END = re.compile(r"[-_.]*(seed|s)?[-_.]*$")


@frozen(kw_only=True)
class Variant:
    """Seeds of one recipe.

    Attributes:
        peak: of the learning rate.
        budget: steps that the recipe asks for.
        runs: by rising seed.
    """

    peak: float
    budget: int
    runs: tuple[LoadedRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(run.seed for run in self.runs)


@frozen(kw_only=True)
class Method:
    """What is compared.

    Attributes:
        label: its name.
        variants: one, or several that differ in the peak of the learning rate, in the budget,
            or in both.
    """

    label: str
    variants: tuple[Variant, ...]

    @property
    def runs(self) -> list[LoadedRun]:
        """All runs of it."""
        return [run for variant in self.variants for run in variant.runs]


def group_runs(
    runs: Sequence[LoadedRun],
    *,
    labels: Mapping[str, Sequence[str]],
    free: frozenset[Key] = frozenset(),
    notify: Callable[[str], object],
) -> list[Method]:
    """Methods, in the order in which their first runs were given.

    Args:
        runs: at least one.
        labels: patterns by label; the runs that fit one belong to that label. All others are
            grouped: runs of one method have recipes that differ in no more than the name, the
            seed, what does not change what is trained (`ASIDE`), and `free`.
        free: keys that may differ inside a method, each value being a variant.
        notify: is told where the runs of a label differ in other keys.

    Raises:
        MdmkitError: for a label that fits no run, or a run that fits two; for a seed that a
            variant has twice.
    """
    named = _labelled(runs, labels)
    groups: dict[tuple[str, str], list[LoadedRun]] = {}
    for run in runs:
        label = named.get(run.directory)
        key = ("label", label) if label else ("recipe", _signature(run, free))
        groups.setdefault(key, []).append(run)
    own = [group for (kind, _), group in groups.items() if kind == "recipe"]
    automatic = dict(zip((id(group) for group in own), _own_labels(own, free), strict=True))
    methods = []
    for (kind, name), group in groups.items():
        label = name if kind == "label" else automatic[id(group)]
        if kind == "label":
            _say_differences(label, group, free, notify)
        methods.append(Method(label=label, variants=_variants(label, group, free)))
    return _told_apart(methods)


def _labelled(runs: Sequence[LoadedRun], labels: Mapping[str, Sequence[str]]) -> dict[Path, str]:
    """The label of each run that a pattern fits."""
    named: dict[Path, str] = {}
    for label, patterns in labels.items():
        for pattern in patterns:
            fitting = [run for run in runs if _fits(run, pattern)]
            if not fitting:
                raise MdmkitError(
                    f"--label {label}={pattern}: fits none of the runs "
                    + ", ".join(run.directory.name for run in runs)
                )
            for run in fitting:
                if named.setdefault(run.directory, label) != label:
                    raise MdmkitError(
                        f"--label: {run.directory} fits {named[run.directory]} and {label}; make "
                        "the patterns narrower"
                    )
    return named


def _fits(run: LoadedRun, pattern: str) -> bool:
    """Whether a pattern means a run: by its name, its directory's, or a folder that holds it."""
    if fnmatch(run.name, pattern) or fnmatch(run.directory.name, pattern):
        return True
    whole = run.directory.resolve()
    place = Path(pattern).resolve()
    return place in (whole, *whole.parents) or fnmatch(str(whole), str(place))


def _signature(run: LoadedRun, free: frozenset[Key]) -> str:
    kept = {dotted(key): value for key, value in _leaves(run).items() if not _under(key, free)}
    return json.dumps(kept, sort_keys=True)


def _leaves(run: LoadedRun) -> Leaves:
    """What decides the training, by key."""
    return {key: value for key, value in _walk(run.recipe, ()) if not _under(key, ASIDE)}


def _walk(data: Mapping[str, Any], above: Key) -> Iterator[tuple[Key, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _walk(value, (*above, key))
        else:
            yield (*above, key), value


def _under(key: Key, prefixes: frozenset[Key]) -> bool:
    return any(key[: len(prefix)] == prefix for prefix in prefixes)


def _varying(groups: Sequence[Sequence[LoadedRun]], free: frozenset[Key]) -> list[Key]:
    """The keys that are not the same in the first run of every group."""
    leaves = [_leaves(group[0]) for group in groups]
    known = dict.fromkeys(key for own in leaves for key in own if not _under(key, free))
    keys = [key for key in known if len({repr(own.get(key)) for own in leaves}) > 1]
    # Of a table that holds different components, the component says enough.
    swapped = frozenset(key[:-1] for key in keys if key[-1] == "use")
    return [key for key in keys if key[-1] == "use" or not _under(key, swapped)]


def _say_differences(
    label: str, group: Sequence[LoadedRun], free: frozenset[Key], notify: Callable[[str], object]
) -> None:
    keys = _varying([[run] for run in group], free)
    if keys:
        shown = ", ".join(dotted(key) for key in keys)
        notify(f"{label}: its runs were put together by --label though they differ in {shown}")


def _own_labels(groups: Sequence[Sequence[LoadedRun]], free: frozenset[Key]) -> list[str]:
    """A label for each group: the runs' name, and what sets it apart from others of that name."""
    names = [_common_name(group) for group in groups]
    labels = []
    for name, group in zip(names, groups, strict=True):
        same = [other for other, theirs in zip(groups, names, strict=True) if theirs == name]
        keys = _varying(same, free)
        if not keys:
            labels.append(name)
        elif len(keys) > _SHORTEST_NAME:
            labels.append(f"{name} {group[0].recipe_hash}")
        else:
            leaves = _leaves(group[0])
            labels.append(" ".join([name, *(_assignment(key, leaves) for key in keys)]))
    return labels


def _assignment(key: Key, leaves: Leaves) -> str:
    table_itself = key[-1] == "use"
    name = key[-2] if table_itself else key[-1]
    return f"{name}={leaves.get(key, 'unset')}"


def _common_name(group: Sequence[LoadedRun]) -> str:
    """The name of all, or what their names begin with, without a mark of the seed."""
    names = sorted({run.name for run in group})
    if len(names) == 1:
        return names[0]
    first, last = names[0], names[-1]  # in order, so what these two share, all share
    pairs = zip(first, last, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return _SEED_AT_END.sub("", first[:same]) or first


def _variants(label: str, group: Sequence[LoadedRun], free: frozenset[Key]) -> tuple[Variant, ...]:
    def place(run: LoadedRun) -> tuple[float, int, bool]:
        peak = run.peak if _under(("learning_rate", "peak"), free) else 0.0
        if not _under(("train", "steps"), free):
            return peak, 0, False
        return peak, run.budget, run.recipe["learning_rate"]["shape"] == "constant"

    variants = []
    for _, found in groupby(sorted(group, key=place), place):
        members = sorted(found, key=lambda run: run.seed)
        for one, two in pairwise(members):
            if one.seed == two.seed:
                raise MdmkitError(
                    f"{label}: {one.directory} and {two.directory} are the same seed of the same "
                    "method; leave one out, or tell them apart by --label"
                )
        first = members[0]
        variants.append(Variant(peak=first.peak, budget=first.budget, runs=tuple(members)))
    return tuple(variants)


def _told_apart(methods: list[Method]) -> list[Method]:
    """The methods with labels that are all different."""
    labels = [method.label for method in methods]
    taken = {label for label in labels if labels.count(label) > 1}
    return [
        evolve(method, label=f"{method.label} {method.runs[0].recipe_hash}")
        if method.label in taken
        else method
        for method in methods
    ]


def choose_baseline(methods: Sequence[Method], wanted: str | None) -> Method:
    """The method of that label; the first one by default.

    Raises:
        MdmkitError: where there is none.
    """
    if wanted is None:
        return methods[0]
    labels = [method.label for method in methods]
    if wanted not in labels:
        raise MdmkitError(
            f'--baseline: there is no method "{wanted}"{did_you_mean(wanted, labels)}; there are '
            + ", ".join(f'"{label}"' for label in labels)
        )
    return methods[labels.index(wanted)]
