"""What the runs were asked to do, and in what they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdmkit.report.page.markup import (
    Markup,
    breakable,
    copied,
    details,
    joined,
    missing,
    paragraph,
    table,
    tag,
)
from mdmkit.report.page.reading import ReportedRun
from mdmkit.report.page.summary import swatch

_USE = "use"
_UNSET = "(not set)"
_SIZES = {
    "steps": "train.steps",
    "rows a step": "train.global_batch_size",
    "tokens a row": "data.length",
    "peak learning rate": "learning_rate.peak",
    "learning rate shape": "learning_rate.shape",
    "precision": "train.precision",
}
"""What else one asks for first, by what it is called."""


def leaves(plain: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The keys of nested tables with dots between, and their values as JSON.

    >>> dict(leaves({"a": {"b": 1}, "c": "x"}))
    {'a.b': '1', 'c': '"x"'}
    """
    for key, value in plain.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            yield from leaves(value, path)
        else:
            yield path, json.dumps(value, ensure_ascii=False, default=str)


def recipes(runs: Sequence[ReportedRun]) -> Markup:
    """The differing keys, what all share, and the files."""
    told = [run for run in runs if run.recipe]
    if not told:
        return missing("No recipe of these runs can be read.")
    trees = [dict(leaves(run.recipe)) for run in told]
    parts = [_components(told)]
    parts += [_differences(told, trees)] if len(told) > 1 else []
    parts.append(_chosen(trees))
    parts += [_whole(run) for run in runs]
    return joined(*parts)


def _differences(runs: Sequence[ReportedRun], trees: Sequence[Mapping[str, str]]) -> Markup:
    keys = list(dict.fromkeys(key for tree in trees for key in tree))
    rows = [
        [tag("code", key), *(tag("code", tree.get(key, _UNSET)) for tree in trees)]
        for key in keys
        if key != "run.name" and len({tree.get(key) for tree in trees}) > 1
    ]
    heading = tag("h3", "What differs")
    if not rows:
        return joined(heading, paragraph("The recipes differ in nothing but the name."))
    header = ["key", *(joined(swatch(run.number), run.label) for run in runs)]
    caption = "Keys of the recipe that differ"
    return joined(heading, table(header, rows, caption=caption, words=len(header)))


def _chosen(trees: Sequence[Mapping[str, str]]) -> Markup:
    """The components that all runs chose, each with its options."""
    shared = {
        key: value
        for key, value in trees[0].items()
        if all(tree.get(key) == value for tree in trees)
    }
    tables: dict[str, list[str]] = {}
    for key, value in shared.items():
        place, _, name = key.rpartition(".")
        tables.setdefault(place, []).append(f"{name} = {value}")
    rows = [
        [tag("code", f"[{place}]"), tag("code", ", ".join(options))]
        for place, options in tables.items()
        if place and place != "run"
    ]
    told = table(["table", "options"], rows, caption="The recipe, defaults filled in", words=2)
    return details("What all share" if len(trees) > 1 else "Every option", told)


def _components(runs: Sequence[ReportedRun]) -> Markup:
    """Which component each table of the recipe chose, and how much was trained."""
    facts: dict[str, list[str]] = {}
    for run in runs:
        for name, value in chosen_words(run.recipe):
            facts.setdefault(name, []).append(value)
    tiles = [
        tag("div", tag("dt", name), tag("dd", breakable(", ".join(dict.fromkeys(values)))))
        for name, values in facts.items()
    ]
    return tag("dl", *tiles, class_="tiles")


def chosen_words(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What each table chose, by what it is called."""
    for place, value in leaves(recipe):
        table_of, _, key = place.rpartition(".")
        if key == _USE and not table_of.startswith(("evaluators.", "trackers.")):
            name = table_of.removeprefix("data.").replace(".", " ").replace("_", " ")
            yield name, value.strip('"')
    tables = dict(leaves(recipe))
    for words, key in _SIZES.items():
        if key in tables:
            yield words, tables[key].strip('"')


def _whole(run: ReportedRun) -> Markup:
    if run.toml is None:
        return missing(f"{run.label}: no recipe.toml in the run directory.")
    of = f"recipe.toml of {run.label}"
    return details(joined(swatch(run.number), of), copied(run.toml, of=of))
