"""From files to one plain tree: TOML, ``extends``, ``--set``, and who said what.

The origin of every key is kept, so that an error names the file in which it is to be mended.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

import mdmkit
from mdmkit.choices import USE
from mdmkit.errors import RecipeError
from mdmkit.problems import Problem, dotted, found
from mdmkit.suggest import did_you_mean

EXTENDS = "extends"
OVERRIDE = "--set"
KeyPath = tuple[str, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_ASSIGNMENT = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=(.*)", re.DOTALL)


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
        data = _merged(self.data, over.data, (), default_uses)
        origins = {**self.origins, **over.origins}
        return Document(
            data=data, origins={path: origins[path] for path in _paths(data)}, where=over.where
        )


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
    document = _read_chain(find_recipe(source), (), default_uses)
    over = parse_overrides(overrides)
    merged = document.overlaid(over, default_uses)
    return Document(data=merged.data, origins=merged.origins, where=document.where)


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
        path = _key_path(match[1]) if match else None
        if match is None or path is None:
            problems.append(f"{OVERRIDE}: expected table.key=value, got {found(text)}")
        elif not _assign(data, path, _value(match[2].strip())):
            problems.append(f"{OVERRIDE}: {dotted(path)} goes through what is set to a value")
    if problems:
        raise RecipeError(problems)
    return Document.of(data, OVERRIDE)


# --- shipped recipes -----------------------------------------------------------------------


def recipe_directory() -> Path:
    """Where the shipped recipes are: in the installed package, or beside it in a checkout."""
    package = Path(mdmkit.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """The names of the shipped recipes, in alphabetical order."""
    return sorted(path.stem for path in recipe_directory().glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe.

    Raises:
        RecipeError: where none has that name.
    """
    names = recipe_names()
    if name not in names:
        known = f"known: {', '.join(names)} (the name of a file ends in .toml)"
        hint = did_you_mean(name, names) or ";"
        raise RecipeError(f'no shipped recipe "{name}"{hint} {known}')
    return recipe_directory() / f"{name}.toml"


def copy_recipe(name: str, to: Path) -> Path:
    """Copy a shipped recipe; an existing file is never overwritten.

    Args:
        name: of the recipe.
        to: the new file, or a directory in which it gets the recipe's own file name.

    Returns:
        The new file.

    Raises:
        RecipeError: where none has that name, or the file exists or cannot be written.
    """
    source = recipe_path(name)
    target = to / source.name if to.is_dir() else to
    try:
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except FileExistsError as error:
        raise RecipeError(f"{target}: exists already; choose another with --to") from error
    except OSError as error:
        raise RecipeError(f"{target}: cannot be written: {error.strerror}") from error
    return target


def find_recipe(source: str | Path) -> Path:
    """The file that `source` means: a path, or the bare name of a shipped recipe.

    Raises:
        RecipeError: where there is no such file or name.
    """
    path = Path(source)
    if path.is_file():
        return path
    bare = path.suffix != ".toml" and len(path.parts) == 1
    if bare and (path.name in recipe_names() or not path.is_dir()):
        return recipe_path(path.name)
    if path.is_dir():
        raise RecipeError(
            f"{path}: is a folder, expected a recipe file; a run goes on with "
            f"`mdmkit run --resume {path}`"
        )
    shipped = path.stem in recipe_names()
    hint = f'; the shipped recipe is called "{path.stem}", without a path' if shipped else ""
    raise RecipeError(f"{path}: there is no such file{hint}")


# --- reading and merging -------------------------------------------------------------------


def _read_chain(
    path: Path, children: tuple[Path, ...], default_uses: Mapping[KeyPath, str]
) -> Document:
    """Read `path` and its ancestors; `children` are the files that led to it."""
    data = _read(path)
    parent_name = data.pop(EXTENDS, None)
    document = Document.of(data, str(path))
    if parent_name is None:
        return document
    chain = (*children, path)
    parent = _parent(parent_name, path)
    if parent.resolve() in {file.resolve() for file in chain}:
        circle = " -> ".join(str(file) for file in (*chain, parent))
        raise RecipeError(f"{path}: {EXTENDS}: goes in a circle: {circle}")
    return _read_chain(parent, chain, default_uses).overlaid(document, default_uses)


def _parent(name: object, path: Path) -> Path:
    if not isinstance(name, str):
        raise RecipeError(f"{path}: {EXTENDS}: expected a string, got {found(name)}")
    try:
        bare = Path(name).suffix != ".toml" and len(Path(name).parts) == 1
        return find_recipe(name if bare else Path(os.path.normpath(path.parent / name)))
    except RecipeError as error:
        raise RecipeError(f"{path}: {EXTENDS}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error


def _merged(
    base: Mapping[str, Any],
    over: Mapping[str, Any],
    path: KeyPath,
    default_uses: Mapping[KeyPath, str],
) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old, here = base.get(key), (*path, key)
        if isinstance(old, dict) and isinstance(value, dict):
            use = old.get(USE, default_uses.get(here))
            changed = use is not None and value.get(USE, use) != use
            result[key] = value if changed else _merged(old, value, here, default_uses)
        else:
            result[key] = value
    return result


def _paths(data: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every table and key."""
    for key, value in data.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _key_path(text: str) -> KeyPath | None:
    """The names in a dotted, perhaps quoted TOML key."""
    try:
        node: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(node, dict):
        ((name, node),) = node.items()
        path.append(name)
    return tuple(path)


def _value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
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
