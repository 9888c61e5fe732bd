"""What a command asks of a suite: some of its sets, an option of all of its evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from operator import eq
from typing import Any

import attrs

from mdmkit.errors import RecipeError
from mdmkit.problems import dotted, in_toml
from mdmkit.recipe_files import KeyPath, key_path
from mdmkit.suite_sources import option_names, unknown_set
from mdmkit.suites import Suite


def select(suite: Suite, labels: Iterable[str]) -> Suite:
    """The suite with some sets only, in the suite's own order; see `chosen`."""
    wanted = chosen(suite, suite.sets, labels)
    return attrs.evolve(suite, sets={label: suite.sets[label] for label in wanted})


def chosen(suite: Suite, labels: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The labels that are asked for, in their own order.

    Args:
        suite: knows the grids.
        labels: those of the sets that there are.
        patterns: some of them, names of grids, or shell patterns that these fit: ``cached-*``.

    Raises:
        RecipeError: for a pattern that none fits.
    """
    tables = {label: suite.table_of(label)[1] for label in labels}
    fitting = {
        pattern: [label for label, table in tables.items() if _fits(pattern, label, table)]
        for pattern in sorted(set(patterns))
    }
    known = dict.fromkeys(tables.values())
    unknown = [unknown_set("--only", p, known) for p, fit in fitting.items() if not fit]
    if unknown:
        raise RecipeError(unknown)
    wanted = set(chain.from_iterable(fitting.values()))
    return [label for label in tables if label in wanted]


def _fits(pattern: str, *names: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def shorthands(suite: Suite, options: Mapping[str, Any]) -> list[str]:
    """Overrides that set an option of the evaluator of every set that has it.

    Args:
        suite: as it is without them.
        options: option to value; None is left out.

    Raises:
        RecipeError: for an option that no evaluator of the suite has, or that a grid varies.
    """
    overrides: list[str] = []
    for key, value in options.items():
        if value is None:
            continue
        having = dict.fromkeys(
            suite.table_of(label)
            for label, entry in suite.sets.items()
            if key in option_names(type(entry.evaluator))
        )
        if not having:
            raise RecipeError(
                f'--{key}: none of the evaluators of suite {suite.name} has an option "{key}"'
            )
        for kind, name in having:
            path = ("evaluator", key)
            if kind == "grids" and _touches(path, suite.grids[name].varied):
                raise RecipeError(f"--{key}: [grids.{name}] varies it; leave out one of the two")
            overrides.append(f"{dotted((kind, name, *path))}={in_toml(value)}")
    return overrides


def _touches(path: KeyPath, options: Iterable[str]) -> bool:
    """Whether one of the options is at `path`, below it, or holds it."""
    varied = (key_path(option) or () for option in options)
    return any(all(map(eq, path, other)) for other in varied)
