"""What a command asks of a suite: some of its sets, an option of all of its evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

import attrs

from mdmkit.errors import RecipeError
from mdmkit.problems import dotted, in_toml
from mdmkit.recipe_files import key_path
from mdmkit.suite_sources import option_names, unknown_set
from mdmkit.suites import Suite


def select(suite: Suite, labels: Iterable[str]) -> Suite:
    """The suite with some sets only, in the suite's own order; see `chosen`."""
    wanted = chosen(suite.sets, labels)
    return attrs.evolve(suite, sets={label: suite.sets[label] for label in wanted})


def chosen(labels: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The labels that are asked for, in their own order.

    Args:
        labels: those of the sets that there are.
        patterns: some of them, or shell patterns that they fit: ``cached-*``.

    Raises:
        RecipeError: for a pattern that none fits.
    """
    labels = list(labels)
    fitting = {
        pattern: [label for label in labels if fnmatchcase(label, pattern)]
        for pattern in sorted(set(patterns))
    }
    unknown = [unknown_set("--only", p, labels) for p, fit in fitting.items() if not fit]
    if unknown:
        raise RecipeError(unknown)
    wanted = set(chain.from_iterable(fitting.values()))
    return [label for label in labels if label in wanted]


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
            if kind == "grids" and path in map(key_path, suite.grids[name].varied):
                raise RecipeError(f"--{key}: [grids.{name}] varies it; leave out one of the two")
            overrides.append(f"{dotted((kind, name, *path))}={in_toml(value)}")
    return overrides
