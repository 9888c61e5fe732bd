"""What plugins rely on is frozen: a name or a signature changes by decision, never by accident.

``tests/unit/public_api.txt`` has the public names with their signatures. After an addition,
``python tests/unit/test_public_api.py`` writes it anew. It refuses to drop or change a line while
`mdmkit.API_VERSION` is what it was: docs/compatibility.md says what a break asks for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mdmkit

FROZEN = Path(__file__).with_name("public_api.txt")
COMPATIBILITY = Path(__file__).parents[2] / "docs" / "compatibility.md"
MODULES = (
    "mdmkit",
    "mdmkit.choosing",
    "mdmkit.diffusion",
    "mdmkit.errors",
    "mdmkit.head",
    "mdmkit.hub",
    "mdmkit.hookspecs",
    "mdmkit.options",
    "mdmkit.protocols",
    "mdmkit.scoring",
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
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_"
        and (
            getattr(value, "__module__", None) == module.__name__
            or (name.isupper() and not inspect.ismodule(value))
        )
    ]


def described(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {path}({bases})"
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
    """The promises of `old` that `new` does not keep."""
    kept = {}
    above = ""
    for line in new:
        above = above if line.startswith(" ") else line
        kept[above, line] = True
    broken = []
    above = ""
    for line in old:
        above = above if line.startswith(" ") else line
        if (above, line) not in kept:
            broken.append(line.strip())
    return broken


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
