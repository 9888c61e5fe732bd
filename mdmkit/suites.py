"""A suite: sets of text, and what is measured on each of them.

A suite is a TOML file that is read like a recipe: ``extends``, ``--set``, strict, all problems at
once. What its sets share stands in ``[protocol]``; a set's own keys win. A grid is many sets
(`mdmkit.suite_grids`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs import Factory, frozen

from mdmkit.choices import USE
from mdmkit.data.detokenizers import DetokenizerName
from mdmkit.data.packing import PackingOptions
from mdmkit.errors import RecipeError
from mdmkit.options import option
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.problems import Gather, Problem, StructureError, found
from mdmkit.protocols import Corpus, Evaluator
from mdmkit.recipe import CLOSED_TABLES
from mdmkit.recipe_files import (
    Document,
    KeyPath,
    merged,
    parse_overrides,
    read_chain,
    read_toml,
)
from mdmkit.shipped import PRESETS, SUITES
from mdmkit.structuring import make_converter
from mdmkit.suite_grids import VARY, Grid, Part, expanded, plain_part, says, suite_problems
from mdmkit.suite_sources import read_sources

__all__ = [
    "Suite",
    "SuiteSet",
    "dump_suite",
    "is_suite",
    "load_suite",
    "suite_from_dict",
]


@frozen(kw_only=True)
class SuiteSet:
    """``[sets.<label>]``: a text and what is measured on it. What is unset is the run's own."""

    corpus: Corpus | None = option(None, doc="the text; unset: the run's own")
    detokenizer: DetokenizerName | None = option(
        None, doc="undoes a data set's tokenization; unset: none, or with the run's text its own"
    )
    packing: PackingOptions | None = option(None, doc="how documents fill blocks; unset: the run's")
    length: int | None = option(None, ge=2, doc="L, tokens a block; unset: the run's")
    evaluator: Evaluator


@frozen(kw_only=True)
class Suite:
    """Sets by label, with the protocol merged into each.

    Attributes:
        name: that of the file, and of what is written.
        title: what it is, in a line.
        preset: the name of the preset that was laid over its protocol.
        sets: by label, those of its grids too.
        grids: by name, which of the sets they are; what `dump_suite` makes has none.
    """

    name: str
    title: str = ""
    preset: str | None = None
    sets: Mapping[str, SuiteSet]
    grids: Mapping[str, Grid] = Factory(dict)

    @property
    def stem(self) -> str:
        """Of the files that are written: those of a preset stand beside the suite's own."""
        return f"{self.name}-{self.preset}" if self.preset else self.name

    def table_of(self, label: str) -> tuple[str, str]:
        """The table of the file that a set comes from."""
        owners = (name for name, grid in self.grids.items() if label in grid.sets)
        grid = next(owners, None)
        return ("sets", label) if grid is None else ("grids", grid)

    def named(self, labels: Iterable[str]) -> str:
        """Sets in words: by their labels, those of a grid by its name and their number."""
        counts = Counter(self.table_of(label) for label in labels)
        return ", ".join(
            name
            if kind == "sets" or count == (total := len(self.grids[name].sets))
            else f"{name} ({count} of {total})"
            for (kind, name), count in counts.items()
        )

    @property
    def tables(self) -> list[str]:
        """The names of its tables of sets: its plain sets and its grids."""
        return list(dict.fromkeys(self.table_of(label)[1] for label in self.sets))


@frozen(kw_only=True)
class _Outline:
    """The file before protocol and sets are merged."""

    title: str = ""
    protocol: Mapping[str, Any] = Factory(dict)
    sets: Mapping[str, Mapping[str, Any]] = Factory(dict)
    grids: Mapping[str, Mapping[str, Any]] = Factory(dict)


def load_suite(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    preset: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    replacing: Iterable[str] = (),
    catalogue: Catalogue | None = None,
) -> Suite:
    """Read, check and structure a suite.

    Args:
        source: a TOML file, or the bare name of a shipped suite.
        overrides: ``sets.<label>.key=value``, ``grids.<name>.key=value`` or
            ``protocol.key=value``, as for ``--set``.
        preset: a file that holds a ``[protocol]``, or the name of a shipped one; it is laid over
            the suite's protocol.
        sources: local files or folders by label, to be read instead of what a set names.
        replacing: options of evaluators; what the files say of them is forgotten.
        catalogue: the components to choose from; all installed ones by default.

    Raises:
        RecipeError: with every problem, one line each, which names the file, the table and the
            key.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    first, *others = read_chain(source, SUITES)
    document = first
    for child in others:
        document = document.overlaid(child, _uses(document.data))
    name = Path(document.where).stem
    laid = None if preset is None else _read_preset(preset)
    if laid is not None:
        document = document.changed(laid, _uses(document.data))
    document = document.without(
        (*table, "evaluator", key) for table in _tables(document.data) for key in replacing
    )
    over = parse_overrides(overrides)
    said = document.changed(over, _uses(document.data))
    for change in (read_sources(said, sources or {}, catalogue), over):
        document = document.changed(change, _uses(document.data))
    return _structure(document, catalogue, name, None if laid is None else Path(laid.where).stem)


def suite_from_dict(
    data: Mapping[str, Any],
    where: str,
    *,
    sources: Mapping[str, str | Path] | None = None,
    catalogue: Catalogue | None = None,
) -> Suite:
    """A suite from plain data, such as `dump_suite` makes.

    Args:
        data: the tree.
        where: what an error calls it.
        sources: local files or folders by label, as for `load_suite`.
        catalogue: the components to choose from; all installed ones by default.

    Raises:
        RecipeError: with every problem, one line each.
    """
    catalogue = load_catalogue() if catalogue is None else catalogue
    plain = {key: value for key, value in data.items() if key not in ("name", "preset")}
    name, preset = data.get("name"), data.get("preset")
    if not isinstance(name, str) or not isinstance(preset, str | None):
        raise RecipeError(f"{where}: name and preset: expected strings, got {found(name)}")
    document = Document.of(plain, where)
    document = document.changed(read_sources(document, sources or {}, catalogue), {})
    return _structure(document, catalogue, name, preset)


def dump_suite(suite: Suite, catalogue: Catalogue | None = None) -> dict[str, Any]:
    """The suite as plain data: every default filled in, what is unset left out, grids as sets."""
    catalogue = load_catalogue() if catalogue is None else catalogue
    plain: dict[str, Any] = _converter(catalogue).unstructure(suite, unstructure_as=Suite)
    return {key: value for key, value in plain.items() if key != "grids"}


def is_suite(source: str | Path) -> bool:
    """Whether this names a suite, and not a recipe: a shipped one, or a file with sets or grids.

    Raises:
        RecipeError: for a file that cannot be read.
    """
    path = Path(source)
    if not path.is_file():
        return path.name == str(source) and path.name in SUITES.names()
    data = read_toml(path)
    return not data.keys().isdisjoint(("sets", "grids", "protocol"))


# --- reading -------------------------------------------------------------------------------


def _structure(document: Document, catalogue: Catalogue, name: str, preset: str | None) -> Suite:
    converter = _converter(catalogue)
    try:
        outline = converter.structure(document.data, _Outline)
        grids = {label: expanded(label, table) for label, table in outline.grids.items()}
        parts = [plain_part(label, own) for label, own in outline.sets.items()]
        parts += chain.from_iterable(grid.parts for grid in grids.values())
        gather = Gather()
        gather.problems += suite_problems(name, document.data, parts)
        gather.problems += chain.from_iterable(grid.problems for grid in grids.values())
        sets = {p.label: _structure_set(converter, p, outline.protocol, gather) for p in parts}
        gather.problems += chain.from_iterable(
            _equal_sets(name, grid.grid, sets) for name, grid in grids.items()
        )
        gather.finish()
    except StructureError as error:
        raise RecipeError(dict.fromkeys(document.lines(error.problems))) from error
    return Suite(
        name=name,
        title=outline.title,
        preset=preset,
        sets={label: entry for label, entry in sets.items() if entry is not None},
        grids={label: found.grid for label, found in grids.items()},
    )


def _structure_set(
    converter: cattrs.Converter, part: Part, protocol: Mapping[str, Any], gather: Gather
) -> SuiteSet | None:
    inner = Gather()
    plain = merged(protocol, part.own, (), {})
    result = inner.part("", lambda: converter.structure(plain, SuiteSet))
    for problem in inner.problems:
        rest = problem.path[1:]
        shared = not says(part.own, rest) and says(protocol, rest)
        place = ("protocol", *rest) if shared else part.place(rest)
        gather.problems.append(attrs.evolve(problem, path=place))
    return result


def _equal_sets(name: str, grid: Grid, sets: Mapping[str, SuiteSet | None]) -> Iterator[Problem]:
    """Sets of a grid that are one, since their values mean the same."""
    seen: dict[str, str] = {}
    for label in grid.sets:
        entry = sets[label]
        other = seen.setdefault(repr(entry), label)
        if entry is not None and other != label and sets[other] == entry:
            message = f"{other} and {label} are the same set; expected each value once"
            yield Problem(path=("grids", name, VARY), table=True, message=message)


def _read_preset(source: str | Path) -> Document:
    first, *others = read_chain(source, PRESETS)
    document = first
    for child in others:
        document = document.overlaid(child, {})
    problems = [
        Problem(path=(key,), message="a preset holds nothing but title and [protocol]")
        for key in document.data
        if key not in ("title", "protocol")
    ]
    if problems:
        raise RecipeError(document.lines(problems))
    data = {key: value for key, value in document.data.items() if key == "protocol"}
    return Document(data=data, origins=document.origins, where=document.where)


def _uses(data: Mapping[str, Any]) -> dict[KeyPath, str]:
    """The component that each table of a set has by the protocol, by path."""
    protocol = data.get("protocol")
    if not isinstance(protocol, Mapping):
        return {}
    return {
        (kind, label, table): options[USE]
        for table, options in protocol.items()
        if isinstance(options, Mapping) and USE in options
        for kind in ("sets", "grids")
        if isinstance(data.get(kind), Mapping)
        for label in data[kind]
    }


def _tables(data: Mapping[str, Any]) -> list[KeyPath]:
    """The tables that say something of a set."""
    kinds = [kind for kind in ("sets", "grids") if isinstance(data.get(kind), Mapping)]
    return [("protocol",), *((kind, label) for kind in kinds for label in data[kind])]


def _converter(catalogue: Catalogue) -> cattrs.Converter:
    return make_converter(catalogue, CLOSED_TABLES)
