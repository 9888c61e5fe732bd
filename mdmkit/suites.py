"""A suite: sets of text, and what is measured on each of them.

A suite is a TOML file that is read like a recipe: ``extends``, ``--set``, strict, all problems at
once. What its sets share stands in ``[protocol]``; a set's own keys win.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from mdmkit.problems import Gather, Problem, StructureError, dotted, found
from mdmkit.protocols import Corpus, Evaluator
from mdmkit.recipe import CLOSED_TABLES
from mdmkit.recipe_check import LABEL
from mdmkit.recipe_files import Document, KeyPath, merged, parse_overrides, read_chain, read_toml
from mdmkit.shipped import PRESETS, SUITES
from mdmkit.structuring import make_converter
from mdmkit.suite_sources import option_names, read_sources, unknown_set

__all__ = [
    "Suite",
    "SuiteSet",
    "dump_suite",
    "is_suite",
    "load_suite",
    "select",
    "shorthands",
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
        sets: by label.
    """

    name: str
    title: str = ""
    preset: str | None = None
    sets: Mapping[str, SuiteSet]


@frozen(kw_only=True)
class _Outline:
    """The file before protocol and sets are merged."""

    title: str = ""
    protocol: Mapping[str, Any] = Factory(dict)
    sets: Mapping[str, Mapping[str, Any]]


def load_suite(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    preset: str | Path | None = None,
    sources: Mapping[str, str | Path] | None = None,
    catalogue: Catalogue | None = None,
) -> Suite:
    """Read, check and structure a suite.

    Args:
        source: a TOML file, or the bare name of a shipped suite.
        overrides: ``sets.<label>.key=value`` or ``protocol.key=value``, as for ``--set``.
        preset: a file that holds a ``[protocol]``, or the name of a shipped one; it is laid over
            the suite's protocol.
        sources: local files or folders by label, to be read instead of what a set names.
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
    """The suite as plain data, with every default filled in and what is unset left out."""
    catalogue = load_catalogue() if catalogue is None else catalogue
    plain: dict[str, Any] = _converter(catalogue).unstructure(suite, unstructure_as=Suite)
    return plain


def is_suite(source: str | Path) -> bool:
    """Whether this names a suite, and not a recipe: a shipped one, or a file with ``sets``.

    Raises:
        RecipeError: for a file that cannot be read.
    """
    path = Path(source)
    if not path.is_file():
        return path.name == str(source) and path.name in SUITES.names()
    data = read_toml(path)
    return "sets" in data or "protocol" in data


def select(suite: Suite, labels: Iterable[str]) -> Suite:
    """The suite with these sets only, in the suite's own order.

    Raises:
        RecipeError: for a label that it does not have.
    """
    wanted = set(labels)
    unknown = [
        unknown_set("--only", label, suite.sets) for label in sorted(wanted - set(suite.sets))
    ]
    if unknown:
        raise RecipeError(unknown)
    kept = {label: entry for label, entry in suite.sets.items() if label in wanted}
    return attrs.evolve(suite, sets=kept)


def shorthands(suite: Suite, options: Mapping[str, Any]) -> list[str]:
    """Overrides that set an option of the evaluator of every set that has it.

    Args:
        suite: as it is without them.
        options: option to value; None is left out.

    Raises:
        RecipeError: for an option that no evaluator of the suite has.
    """
    overrides: list[str] = []
    for key, value in options.items():
        if value is None:
            continue
        having = [
            label
            for label, entry in suite.sets.items()
            if key in option_names(type(entry.evaluator))
        ]
        if not having:
            raise RecipeError(
                f'--{key}: none of the evaluators of suite {suite.name} has an option "{key}"'
            )
        overrides += [
            f"{dotted(('sets', label, 'evaluator', key))}={json.dumps(value)}" for label in having
        ]
    return overrides


# --- reading -------------------------------------------------------------------------------


def _structure(document: Document, catalogue: Catalogue, name: str, preset: str | None) -> Suite:
    converter = _converter(catalogue)
    try:
        outline = converter.structure(document.data, _Outline)
        gather = Gather()
        for problem in _label_problems(name, outline.sets):
            gather.problems.append(problem)
        sets = {
            label: _structure_set(converter, label, own, outline.protocol, gather)
            for label, own in outline.sets.items()
        }
        gather.finish()
    except StructureError as error:
        raise RecipeError(dict.fromkeys(document.lines(error.problems))) from error
    whole = {label: entry for label, entry in sets.items() if entry is not None}
    return Suite(name=name, title=outline.title, preset=preset, sets=whole)


def _structure_set(
    converter: cattrs.Converter,
    label: str,
    own: Mapping[str, Any],
    protocol: Mapping[str, Any],
    gather: Gather,
) -> SuiteSet | None:
    inner = Gather()
    plain = merged(protocol, own, (), {})
    result = inner.part("", lambda: converter.structure(plain, SuiteSet))
    for problem in inner.problems:
        rest = problem.path[1:]
        shared = not _within(own, rest) and _within(protocol, rest)
        where = ("protocol",) if shared else ("sets", label)
        gather.problems.append(attrs.evolve(problem, path=(*where, *rest)))
    return result


def _within(data: Any, path: Sequence[str | int]) -> bool:
    """Whether `data` says something at `path`."""
    for key in path:
        if not isinstance(data, Mapping):
            return True  # inside of a value
        if key not in data:
            return False
        data = data[key]
    return True


def _label_problems(name: str, labels: Mapping[str, Any]) -> Iterator[Problem]:
    expected = "expected letters, digits and . _ -, with a letter or digit first"
    if not LABEL.fullmatch(name):
        yield Problem(
            path=(), message=f"the name of a suite names a file: {expected}; got {found(name)}"
        )
    if not labels:
        yield Problem(path=("sets",), table=True, message="is empty; expected at least one set")
    for label in labels:
        if not LABEL.fullmatch(label):
            yield Problem(
                path=("sets", label), table=True, message=f"{expected}; got {found(label)}"
            )


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
    protocol, sets = data.get("protocol"), data.get("sets")
    if not isinstance(protocol, Mapping) or not isinstance(sets, Mapping):
        return {}
    return {
        ("sets", label, table): options[USE]
        for table, options in protocol.items()
        if isinstance(options, Mapping) and USE in options
        for label in sets
    }


def _converter(catalogue: Catalogue) -> cattrs.Converter:
    return make_converter(catalogue, CLOSED_TABLES)
