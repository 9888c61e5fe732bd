"""From files to one plain tree: TOML, ``extends``, ``--set``, and who said what.

The origin of every key is kept, so that an error names the file in which it is to be mended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from mdmkit.choices import USE
from mdmkit.errors import RecipeError
from mdmkit.plain_files import LARGEST_TOML, parse_toml, read_bytes
from mdmkit.problems import Problem, dotted, found
from mdmkit.shipped import RECIPES, Shelf, is_bare

EXTENDS = "extends"
OVERRIDE = "--set"
LONGEST_CHAIN = 32
"""Files that extend each other."""
KeyPath = tuple[str, ...]

recipe_names = RECIPES.names
recipe_path = RECIPES.path

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PATH = re.compile(rf"{_KEY}(?:\s*\.\s*{_KEY})*")
_ASSIGNMENT = re.compile(rf"\s*({_PATH.pattern})\s*=(.*)", re.DOTALL)


@frozen(kw_only=True)
class Document:
    """A recipe as plain data, and where each of its keys comes from.

    Attributes:
        data: the tree, without ``extends``.
        origins: the file (or ``--set``) that said a key or table last, by path.
        where: the file that was asked for; what is missing is missing there.
    """

    data: dict[str, Any]
    origins: Mapping[KeyPath, str]
    where: str

    @classmethod
    def of(cls, data: dict[str, Any], where: str) -> Document:
        """A document that comes from one place."""
        return cls(data=data, origins=dict.fromkeys(_paths(data), where), where=where)

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """Each problem as a line that begins with the file it is in."""
        return [f"{self._origin(problem.path)}: {problem.line()}" for problem in problems]

    def _origin(self, path: Sequence[str | int]) -> str:
        names = tuple(str(key) for key in path)
        prefixes = (names[:length] for length in range(len(names), 0, -1))
        return next((self.origins[p] for p in prefixes if p in self.origins), self.where)

    def overlaid(self, over: Document, default_uses: Mapping[KeyPath, str]) -> Document:
        """This document with the keys of `over` laid over it.

        Tables are merged, everything else is replaced. Where `over` chooses another component,
        the options of the old one are forgotten: they would mean nothing to the new one.

        Args:
            over: the document that has the last word.
            default_uses: the component of a table that names none, by path.
        """
        data = merged(self.data, over.data, (), default_uses)
        origins = {**self.origins, **over.origins}
        return Document(
            data=data, origins={path: origins[path] for path in _paths(data)}, where=over.where
        )

    def without(self, paths: Iterable[KeyPath]) -> Document:
        """This document with nothing at these paths."""
        data = self.data
        for path in paths:
            data = _without(data, path)
        return evolve(self, data=data)

    def changed(self, over: Document, default_uses: Mapping[KeyPath, str]) -> Document:
        """`overlaid`, but what is missing is still missing in this document."""
        return evolve(self.overlaid(over, default_uses), where=self.where)


def read_document(
    source: str | Path, overrides: Sequence[str], default_uses: Mapping[KeyPath, str]
) -> Document:
    """Read a recipe with all that it extends, and lay the overrides over it.

    Args:
        source: a file, or the bare name of a shipped recipe.
        overrides: ``table.key=value``, as given to ``--set``.
        default_uses: the component of a table that names none, by path.

    Raises:
        RecipeError: where a file cannot be found or read, is not TOML, extends itself, or an
            override has no key.
    """
    first, *others = read_chain(source, RECIPES)
    document = first
    for child in others:
        document = document.overlaid(child, default_uses)
    return document.changed(parse_overrides(overrides), default_uses)


def parse_overrides(overrides: Sequence[str]) -> Document:
    """Read ``table.key=value`` assignments into one document.

    A value that is TOML is read as TOML, any other is taken as a string.

    >>> parse_overrides(["train.steps=10", "run.name=my_run"]).data
    {'train': {'steps': 10}, 'run': {'name': 'my_run'}}
    """
    data: dict[str, Any] = {}
    problems = []
    for text in overrides:
        match = _ASSIGNMENT.fullmatch(text)
        path = key_path(match[1]) if match else None
        if match is None or path is None:
            problems.append(f"{OVERRIDE}: expected table.key=value, got {found(text)}")
        elif not _assign(data, path, _value(match[2].strip())):
            problems.append(f"{OVERRIDE}: {dotted(path)} goes through what is set to a value")
    if problems:
        raise RecipeError(problems)
    return Document.of(data, OVERRIDE)


# --- reading and merging -------------------------------------------------------------------


def read_chain(source: str | Path, shelf: Shelf) -> list[Document]:
    """Read a file and all that it extends.

    Args:
        source: a file, or the bare name of one on the shelf.
        shelf: where bare names are looked up.

    Returns:
        The documents, the oldest ancestor first and the file itself last.

    Raises:
        RecipeError: where a file cannot be found or read, is not TOML, or extends itself.
    """
    path: Path | None = shelf.find(source)
    files: list[Path] = []
    documents: list[Document] = []
    while path is not None:
        data = read_toml(path)
        files.append(path)
        parent_name = data.pop(EXTENDS, None)
        documents.insert(0, Document.of(data, str(path)))
        path = None if parent_name is None else _parent(parent_name, files, shelf)
    return documents


def _parent(name: object, files: Sequence[Path], shelf: Shelf) -> Path:
    """The file that the last of `files` extends; the others led to it."""
    path = files[-1]
    if not isinstance(name, str):
        raise RecipeError(f"{path}: {EXTENDS}: expected a string, got {found(name)}")
    try:
        bare = is_bare(Path(name))
        parent = shelf.find(name if bare else Path(os.path.normpath(path.parent / name)))
    except RecipeError as error:
        raise RecipeError(f"{path}: {EXTENDS}: {error}") from error
    if len(files) == LONGEST_CHAIN:
        raise RecipeError(f"{path}: {EXTENDS}: expected {LONGEST_CHAIN} files at most in a row")
    if parent.resolve() in {file.resolve() for file in files}:
        circle = " -> ".join(str(file) for file in (*files, parent))
        raise RecipeError(f"{path}: {EXTENDS}: goes in a circle: {circle}")
    return parent


def read_toml(path: Path) -> dict[str, Any]:
    """The file alone as plain data.

    Raises:
        RecipeError: where it cannot be read or is not TOML.
    """
    try:
        return parse_toml(read_bytes(path, LARGEST_TOML).decode())
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: not UTF-8 text ({error.reason})") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error


def merged(
    base: Mapping[str, Any],
    over: Mapping[str, Any],
    path: KeyPath,
    default_uses: Mapping[KeyPath, str],
) -> dict[str, Any]:
    """`base` with `over` laid over it, `path` being where they are; see `Document.overlaid`."""
    result = dict(base)
    for key, value in over.items():
        old, here = base.get(key), (*path, key)
        if isinstance(old, dict) and isinstance(value, dict):
            use = old.get(USE, default_uses.get(here))
            changed = use is not None and value.get(USE, use) != use
            result[key] = value if changed else merged(old, value, here, default_uses)
        else:
            result[key] = value
    return result


def _without(table: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    first, *rest = path
    if first not in table or (rest and not isinstance(table[first], dict)):
        return table
    inner = {first: _without(table[first], tuple(rest))} if rest else {}
    return {key: inner.get(key, value) for key, value in table.items() if rest or key != first}


def _paths(data: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every table and key."""
    for key, value in data.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def key_path(text: str) -> KeyPath | None:
    """The names in a dotted, perhaps quoted TOML key; None where it is none.

    >>> key_path("evaluators.'a b'.draws")
    ('evaluators', 'a b', 'draws')
    """
    if not _PATH.fullmatch(text):
        return None
    try:
        node: Any = parse_toml(f"{text} = 0")
    except ValueError:
        return None
    path = []
    while isinstance(node, dict):
        ((name, node),) = node.items()
        path.append(name)
    return tuple(path)


def _value(text: str) -> Any:
    try:
        read = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return read["value"] if list(read) == ["value"] else text


def _assign(data: dict[str, Any], path: KeyPath, value: Any) -> bool:
    """Set ``data[a][b]… = value``; whether that was possible."""
    node: Any = data
    for name in path[:-1]:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            return False
    node[path[-1]] = value
    return True
