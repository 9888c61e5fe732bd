"""What is wrong with a piece of plain data, and where: collected first, worded as lines later."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs
from attrs import frozen

T = TypeVar("T")
Key = str | int
Path = tuple[Key, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_PLACE = 500  # characters
_LONGEST = 60  # characters of a string that a message repeats


@frozen(kw_only=True)
class Problem:
    """Something wrong at one place of the data.

    Attributes:
        path: keys and array indices, from the root.
        message: what was found, what was expected, and the remedy.
        table: whether the place is a table (else it is a key in one).
    """

    path: Path
    message: str
    table: bool = False

    def within(self, key: Key) -> Problem:
        """The same, seen from one level further up."""
        return attrs.evolve(self, path=(key, *self.path))

    def line(self) -> str:
        """The place, as ``[table] key``, and the message.

        >>> Problem(path=("data", "files", 2), message="expected a string").line()
        '[data] files[2]: expected a string'
        >>> Problem(path=("data", "corpus"), message="is missing", table=True).line()
        '[data.corpus]: is missing'
        """
        split = len(self.path) if self.table else self._key_start()
        table, key = dotted(self.path[:split]), dotted(self.path[split:])
        place = " ".join(part for part in (f"[{table}]" if table else "", key) if part)
        place = place if len(place) <= _LONGEST_PLACE else place[:_LONGEST_PLACE] + "…"
        return f"{place}: {self.message}" if place else self.message

    def _key_start(self) -> int:
        """Where the key begins: the last name; the indices after it belong to it."""
        start = max(len(self.path) - 1, 0)
        while start > 0 and isinstance(self.path[start], int):
            start -= 1
        return start


class StructureError(ValueError):
    """Data that does not fit; carries every problem that was found.

    An options class may raise it when it is made, to name the key that is wrong; any other
    ValueError is blamed on the table.
    """

    def __init__(self, *problems: Problem) -> None:
        """Hold `problems`, at least one."""
        self.problems = problems
        super().__init__("\n".join(problem.line() for problem in problems))


class Gather:
    """Collects the problems of the parts of a value, each under its key."""

    def __init__(self) -> None:
        """Start with none."""
        self.problems: list[Problem] = []

    def part(self, key: Key, function: Callable[[], T]) -> T | None:
        """``function()``, or None after noting its problems."""
        try:
            return function()
        except StructureError as error:
            self.problems += [problem.within(key) for problem in error.problems]
            return None

    def finish(self) -> None:
        """Raise what was collected, if anything was."""
        if self.problems:
            raise StructureError(*self.problems)


def invalid(message: str, *path: Key, table: bool = False) -> StructureError:
    """One problem, ready to be raised."""
    return StructureError(Problem(path=path, message=message, table=table))


def dotted(path: Iterable[Key]) -> str:
    """A path as TOML writes it: dotted, odd names quoted, array indices in brackets.

    >>> dotted(("evaluators", "a b", "files", 0))
    'evaluators."a b".files[0]'
    """
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def in_toml(value: object) -> str:
    """A value of plain data as TOML writes it, in one line.

    >>> in_toml({"run": "a", "layers": [1, 2]})
    '{run = "a", layers = [1, 2]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{dotted((k,))} = {in_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(in_toml, value))}]"
    return json.dumps(value)


def a(noun: str) -> str:
    """The noun with its article.

    >>> a("denoiser"), a("evaluator")
    ('a denoiser', 'an evaluator')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def found(value: object) -> str:
    """A value in words, for ``got …``.

    >>> found("1000"), found(True), found(3)
    ('the string "1000"', 'the boolean true', 'the integer 3')
    """
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int():
            return f"the integer {value}"
        case float():
            return f"the number {value}"
        case str():
            shown = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
            return f"the string {json.dumps(shown, ensure_ascii=False)}"
        case datetime.date() | datetime.time():
            return f"the date or time {value} (quote it to make it a string)"
        case Mapping():
            return "a table"
        case Sequence():
            return "an array"
    return f"a {type(value).__name__}"
