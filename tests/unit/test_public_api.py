"""What plugins rely on is frozen: a name or a signature changes by decision, never by accident.

``tests/unit/public_api.txt`` has the public names with their signatures. After an addition,
``python tests/unit/test_public_api.py`` writes it anew. It refuses to drop or change a line while
`mdmkit.API_VERSION` is what it was: docs/compatibility.md says what a break asks for.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import attrs
import pytest

import mdmkit

FROZEN = Path(__file__).with_name("public_api.txt")
COMPATIBILITY = Path(__file__).parents[2] / "docs" / "compatibility.md"
MODULES = (
    "mdmkit",
    "mdmkit.choosing",
    "mdmkit.diffusion",
    "mdmkit.errors",
    "mdmkit.files",
    "mdmkit.head",
    "mdmkit.hub",
    "mdmkit.hookspecs",
    "mdmkit.options",
    "mdmkit.protocols",
    "mdmkit.scoring",
    "mdmkit.suggest",
    "mdmkit.testing",
    "mdmkit.values",
    "mdmkit.visibility",
)


def public_api() -> list[str]:
    """One line for each public name, and for each member of a public class."""
    return [f"API_VERSION = {mdmkit.API_VERSION}", *(line for m in MODULES for line in of(m))]


def of(module_name: str) -> Iterator[str]:
    module = import_module(module_name)
    for name in sorted(names_of(module)):
        yield from described(f"{module_name}.{name}", getattr(module, name))


def names_of(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    assigned = assigned_in(module)
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_"
        and not isinstance(value, TypeVar)
        and (
            getattr(value, "__module__", None) == module.__name__
            or (name.isupper() and name in assigned)
        )
    ]


def assigned_in(module: ModuleType) -> set[str]:
    """The constants of a module that are its own, and not imported."""
    found = set()
    for statement in ast.parse(inspect.getsource(module)).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        if isinstance(statement, ast.AnnAssign):
            targets = (statement.target,)
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def described(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {path}({bases})"
        yield from (f"  {line}" for line in construction(value))
        for name, member in sorted(vars(value).items()):
            if name[0] != "_" or (name == "__call__" and callable(member)):
                yield from (f"  {line}" for line in member_of(name, member))
        for name, annotation in sorted(getattr(value, "__annotations__", {}).items()):
            if name[0] != "_":
                yield f"  {name}: {annotation}"
    elif callable(value) and hasattr(value, "__code__"):
        yield f"def {path}{signature(value)}"
    else:
        yield f"{path}"
        if get_origin(value) is Literal:
            yield from (f"  {word!r}" for word in get_args(value))


def construction(cls: type) -> Iterator[str]:
    """How a class is called, and in which order a tuple has its fields."""
    if issubclass(cls, tuple):
        defaults = cls._field_defaults
        fields = [f"{f}={defaults[f]!r}" if f in defaults else f for f in cls._fields]
        yield f"fields ({', '.join(fields)})"
    elif "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):
        yield f"def __init__{signature(vars(cls)['__init__'])}"


def member_of(name: str, member: Any) -> Iterator[str]:
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    if isinstance(member, property):
        yield f"property {name}"
    elif inspect.isfunction(member):
        yield f"def {name}{signature(member)}"


def signature(function: Any) -> str:
    """With annotations as they are written, and without the addresses of default objects."""
    parameters = inspect.signature(function).parameters.values()
    shown = [
        parameter.replace(default=_Shown(parameter.default))
        if parameter.default is not inspect.Parameter.empty
        else parameter
        for parameter in parameters
    ]
    returned = inspect.signature(function).return_annotation
    return str(inspect.Signature(shown, return_annotation=returned))


class _Shown:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        plain = isinstance(self.value, str | int | float | bool | tuple | type(None))
        return repr(self.value) if plain else f"<{type(self.value).__name__}>"


def missing(old: list[str], new: list[str]) -> list[str]:
    """The promises of `old` that `new` does not keep: an argument may join that can be left out."""
    kept = set(within(new))
    signatures = {(above, line.partition("(")[0]): line for above, line in kept}
    return [
        line.strip()
        for above, line in within(old)
        if (above, line) not in kept
        and not takes_as_much(line, signatures.get((above, line.partition("(")[0]), ""))
    ]


def within(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with the class that it is in."""
    above = ""
    for line in lines:
        above = above if line.startswith(" ") else line.partition("(")[0]
        yield above, line


def takes_as_much(old: str, new: str) -> bool:
    """Whether a signature is another one with optional keyword arguments besides."""
    (before, was), (after, now) = parameters(old), parameters(new)
    if not was or before != after or "*" not in now:
        return False
    more = [one for one in now if one not in was]
    optional = all("=" in one and now.index(one) > now.index("*") for one in more)
    return optional and [one for one in now if one in was] in (was, [*was, "*"])


def parameters(line: str) -> tuple[str, list[str]]:
    """A signature in two: all but its parameters, and these."""
    start, found, depth, quoted = line.find("(") + 1, [""], 0, False
    for place, letter in enumerate(line[start:], start):
        quoted ^= letter == "'"
        depth += (letter in "([<") - (letter in ")]>") if not quoted else 0
        if depth < 0:
            return line[:start] + line[place:], [one.strip() for one in found if one.strip()]
        if letter == "," and depth == 0 and not quoted:
            found.append("")
        else:
            found[-1] += letter
    return line, []


def test_the_public_api_is_the_frozen_one() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").splitlines()
    found = public_api()
    assert missing(frozen, found) == [], "a plugin may rely on these: see docs/compatibility.md"
    assert missing(found, frozen) == [], "added: python tests/unit/test_public_api.py"


def test_a_change_would_be_noticed() -> None:
    found = public_api()
    line = "  def icdf(self, u: 'Tensor') -> 'Tensor'"
    place = found.index("class mdmkit.protocols.Density(Protocol)")
    assert line in found[place : place + 4]
    changed = [one.replace("icdf(self, u", "icdf(self, step, u") for one in found]
    assert set(missing(found, changed)) == {line.strip()}
    assert "def mdmkit.train" in "".join(found)
    assert any(one.startswith("  normalizer") or "property normalizer" in one for one in found)


def test_an_argument_may_join_that_can_be_left_out() -> None:
    old = "def f(self, a: 'dict[str, int]', *, b: 'T' = <function>) -> 'X'"
    for new, fits in (
        ("def f(self, a: 'dict[str, int]', *, b: 'T' = <function>, c: 'int' = 1) -> 'X'", True),
        ("def f(self, a: 'dict[str, int]', *, c: 'int' = 1, b: 'T' = <function>) -> 'X'", True),
        ("def f(self, a: 'dict[str, int]', *, b: 'T' = <function>, c: 'int') -> 'X'", False),
        ("def f(self, a: 'dict[str, int]', c=1, *, b: 'T' = <function>) -> 'X'", False),
        ("def f(self, a: 'dict[str, int]', *, c: 'int' = 1) -> 'X'", False),
        ("def f(self, a: 'dict[str, int]', *, b: 'T' = <function>, c: 'int' = 1) -> 'Y'", False),
    ):
        assert (missing([old], [new]) == []) == fits, new


def test_order_values_and_defaults_are_frozen_and_imports_are_not() -> None:
    class Pair(NamedTuple):
        second: int
        first: int = 3

    @attrs.frozen(kw_only=True)
    class Made:
        rate: float = 0.5
        parts: dict[str, int] = attrs.field(factory=dict)

    assert "  fields (second, first=3)" in list(described("Pair", Pair))
    made = "  def __init__(self, *, rate: 'float' = 0.5, parts: 'dict[str, int]' = <_Nothing>)"
    assert any(line.startswith(made) for line in described("Made", Made))
    assert list(described("Word", Literal["b", "a"])) == ["Word", "  'b'", "  'a'"]
    names = [*names_of(import_module("mdmkit.head")), *names_of(import_module("mdmkit.hookspecs"))]
    assert "LOGITS_AT_ONCE" in names
    assert not {"TYPE_CHECKING", "F"} & set(names)


@pytest.mark.parametrize("module", MODULES)
def test_the_page_names_every_public_module(module: str) -> None:
    text = COMPATIBILITY.read_text(encoding="utf-8")
    assert f"`{module}`" in text
    assert f"version {mdmkit.API_VERSION}" in text


if __name__ == "__main__":
    lines = public_api()
    lost = (
        missing(FROZEN.read_text(encoding="utf-8").splitlines(), lines) if FROZEN.exists() else []
    )
    if lost and not any(line.startswith("API_VERSION") for line in lost):
        sys.exit(
            "plugins may rely on these, which are gone or changed; keep them, or raise "
            "mdmkit.API_VERSION:\n" + "\n".join(lost)
        )
    FROZEN.write_text("\n".join(lines) + "\n", encoding="utf-8")
