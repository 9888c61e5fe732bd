"""``[grids.<name>]``: one set of a suite, with options varied over lists of values.

Every combination of the values becomes a set of its own, before anything is structured: what is
measured and kept are plain sets.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import Factory, frozen

from mdmkit.choices import USE
from mdmkit.problems import Path, Problem, dotted, found
from mdmkit.recipe_check import LABEL
from mdmkit.recipe_files import KeyPath, key_path

VARY = "vary"
LARGEST = 1000  # sets of a grid; more are a mistake
LABELS = "expected letters, digits and . _ -, with a letter or digit first"

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@frozen(kw_only=True)
class Grid:
    """What a grid became.

    Attributes:
        varied: the options, as dotted paths inside of a set, in the file's order.
        sets: by label, the value of each of them.
    """

    varied: tuple[str, ...]
    sets: Mapping[str, Mapping[str, Any]]


@frozen(kw_only=True)
class Part:
    """A set as plain data, before the protocol is merged in.

    Attributes:
        label: of the set.
        own: its keys.
        where: the table that says them.
        varied: the place of what a grid varies, by its path inside of the set.
    """

    label: str
    own: Mapping[str, Any]
    where: Path
    varied: Mapping[KeyPath, Path] = Factory(dict)

    def place(self, path: Path) -> Path:
        """Where in the file stands what is at `path` inside of the set."""
        fitting = [option for option in self.varied if path[: len(option)] == option]
        if not fitting:
            return (*self.where, *path)
        option = max(fitting, key=len)
        return (*self.varied[option], *path[len(option) :])


@frozen(kw_only=True)
class Expanded:
    """The sets of a grid, or what is wrong with it."""

    grid: Grid = Grid(varied=(), sets={})
    parts: Sequence[Part] = ()
    problems: Sequence[Problem] = ()


def plain_part(label: str, own: Mapping[str, Any]) -> Part:
    """``[sets.<label>]``."""
    return Part(label=label, own=own, where=("sets", label))


def expanded(name: str, table: Mapping[str, Any]) -> Expanded:
    """The sets of ``[grids.<name>]``, the last option varying fastest.

    A label is the grid's name and for each option the last name of its path with its value:
    ``cached-steps8-temperature0.8``.
    """
    where = ("grids", name)
    axes = table.get(VARY)
    problems = list(_problems(where, axes, {key: v for key, v in table.items() if key != VARY}))
    if problems or not isinstance(axes, Mapping):
        return Expanded(problems=problems)
    paths = {option: key_path(option) or () for option in axes}
    names = short_names(list(paths.values()))
    words = [_words(short, axes[option]) for short, option in zip(names, axes, strict=True)]
    places = {path: (*where, VARY, option) for option, path in paths.items()}
    parts, sets = [], {}
    for chosen in itertools.product(*(range(len(values)) for values in axes.values())):
        own: dict[str, Any] = {key: value for key, value in table.items() if key != VARY}
        values = {option: axes[option][i] for option, i in zip(axes, chosen, strict=True)}
        for option in sorted(values, key=lambda option: len(paths[option])):
            own = _with(own, paths[option], values[option])
        label = "-".join([name, *(word[i] for word, i in zip(words, chosen, strict=True))])
        sets[label] = values
        parts.append(Part(label=label, own=own, where=where, varied=places))
    return Expanded(grid=Grid(varied=tuple(axes), sets=sets), parts=parts)


def says(data: Any, path: Path) -> bool:
    """Whether `data` says something at `path`."""
    for key in path:
        if not isinstance(data, Mapping):
            return True  # inside of a value
        if key not in data:
            return False
        data = data[key]
    return True


def suite_problems(name: str, data: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[Problem]:
    """What is wrong with the names of a suite, of its sets and of its grids.

    Args:
        name: of the suite.
        data: the suite as plain data.
        parts: its sets, those of grids too.
    """
    grids: Mapping[str, Any] = data.get("grids", {})
    if not data.get("sets") and not grids:
        lack = "is empty; expected" if "sets" in data else "missing; expected a table of"
        message = f"{lack} at least one set, or [grids]"
        yield Problem(path=("sets",), table=True, message=message)
    if not LABEL.fullmatch(name):
        yield Problem(
            path=(), message=f"the name of a suite names a file: {LABELS}; got {found(name)}"
        )
    plain = [("sets", part.label) for part in parts if part.where[0] == "sets"]
    for path in [*plain, *(("grids", grid) for grid in grids)]:
        if not LABEL.fullmatch(path[-1]):
            yield Problem(path=path, table=True, message=f"{LABELS}; got {found(path[-1])}")
    owners: dict[str, Path] = {}
    for part in parts:
        other = owners.setdefault(part.label, part.where)
        if other != part.where:
            message = f"one of its sets is called {part.label}, as is one of [{dotted(other)}]"
            yield Problem(path=part.where, table=True, message=message)


def _problems(where: Path, axes: object, own: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the table `vary` of a grid."""
    here = (*where, VARY)
    if not isinstance(axes, Mapping) or not axes:
        got = "missing" if axes is None else "is empty" if axes == {} else f"got {found(axes)}"
        example = '"evaluator.sampler.steps" = [8, 16]'
        yield Problem(
            path=here, table=True, message=f"{got}; expected a table of values, such as {example}"
        )
        return
    for option, values in axes.items():
        for message in _axis_problems(option, values, own):
            yield Problem(path=(*here, option), message=message)
    sizes = [len(values) for values in axes.values() if isinstance(values, list)]
    if math.prod(sizes) > LARGEST:
        number = f"{math.prod(sizes):,}" if len(sizes) < 100 else "far too many"
        message = f"makes {number} sets; expected {LARGEST:,} at most"
        yield Problem(path=here, table=True, message=message)


def _axis_problems(option: str, values: object, own: Mapping[str, Any]) -> Iterator[str]:
    path = key_path(option)
    if path is None:
        yield "expected the dotted path of an option inside of the set"
    if isinstance(values, Mapping):
        yield "expected an array of values, got a table; a dotted path is quoted"
    elif not isinstance(values, list):
        yield f"expected an array of values, got {found(values)}"
    elif not values:
        yield "is empty; expected at least one value"
    else:
        plain = Counter(json.dumps(value, sort_keys=True, default=str) for value in values)
        for value, count in plain.items():
            if count > 1:
                yield f"{value} is there {count} times; expected it once"
    node: Any = own
    for depth, key in enumerate(path or (), 1):
        if not isinstance(node, Mapping):
            yield f"goes through {dotted((path or ())[: depth - 1])}, which is {found(node)}"
            return
        node = node.get(key, {})


def _with(table: Mapping[str, Any], path: KeyPath, value: Any) -> dict[str, Any]:
    """A copy of `table` that says `value` at `path`."""
    first, *rest = path
    if not rest:
        return {**table, first: value}
    inner = table.get(first)
    return {**table, first: _with(inner if isinstance(inner, Mapping) else {}, tuple(rest), value)}


def short_names(paths: Sequence[KeyPath]) -> list[str]:
    """The last names of each path, as many as tell them apart."""
    return [_UNFIT.sub("_", ".".join(_end(path, paths))) for path in paths]


def _end(path: KeyPath, others: Sequence[KeyPath]) -> KeyPath:
    ends = (path[-length:] for length in range(1, len(path) + 1))
    alone = (end for end in ends if sum(other[-len(end) :] == end for other in others) == 1)
    return next(alone, path)


def _words(short: str, values: Sequence[Any]) -> list[str]:
    """A part of a label for each value; their numbers, where values make no different words."""
    words = [f"{short}{_word(value)}" for value in values]
    if len(set(words)) == len(words):
        return words
    return [f"{short}_{number}" for number in range(1, len(values) + 1)]


def _word(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get(USE), str):
        value = value[USE]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _UNFIT.sub("", str(value))
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"_{_UNFIT.sub('_', text)}"
