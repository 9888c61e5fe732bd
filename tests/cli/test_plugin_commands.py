"""Commands that plugins add."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import mdmkit, refused

GREET = """
    import typer
    from typing import Annotated
    from mdmkit import DataError

    def greet(name: str, loud: Annotated[bool, typer.Option(help="Shout.")] = False) -> None:
        "Say hello to somebody."
        if name == "nobody":
            raise DataError("nobody is there; name somebody")
        typer.echo(f"hello {name}".upper() if loud else f"hello {name}")
"""
Install = Callable[..., Path]


@pytest.fixture
def install(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(distribution, code, **commands)``: the names and functions of its commands."""
    names: list[str] = []

    def put(name: str, code: str, **commands: str) -> Path:
        root = distribution(name, code)
        (entries,) = root.glob("*.dist-info/entry_points.txt")
        module = root.name
        lines = [f"{command} = {module}:{function}" for command, function in commands.items()]
        entries.write_text("\n".join(["[mdmkit.commands]", *lines, ""]))
        names.append(name)
        monkeypatch.setenv("MDMKIT_PLUGINS", ",".join(names))
        return root

    return put


def test_a_command_of_a_plugin_is_one_like_ours(install: Install) -> None:
    install("mdmkit-greet", GREET, greet="greet")
    assert mdmkit("greet", "you").out == "hello you\n"
    assert mdmkit("greet", "you", "--loud").out == "HELLO YOU\n"
    assert "Say hello to somebody." in mdmkit("--help").out
    assert "Shout." in mdmkit("greet", "--help").out
    assert refused("greet", "nobody") == "nobody is there; name somebody\n"
    assert "Missing argument 'name'" in refused("greet")


def test_without_the_plugin_there_is_no_such_command(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mdmkit-greet", GREET, greet="greet")
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    assert "No such command 'greet'" in refused("greet", "you")
    assert "greet" not in mdmkit("--help").out


def test_a_plugin_cannot_take_a_command_of_ours(install: Install) -> None:
    install("mdmkit-greet", GREET, recipes="greet")
    assert "quickstart_bell" in mdmkit("recipes").out
    assert mdmkit("--help").out.count("  recipes ") == 1


@pytest.mark.parametrize(
    ("code", "function", "reason"),
    [
        ("import module_that_is_not_there", "greet", "ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "greet", "SystemExit: 3"),
        ("class Odd(BaseException): pass\nraise Odd('no')", "greet", "Odd: no"),
        (
            "MDMKIT_API = 99\n" + textwrap.dedent(GREET),
            "greet",
            "used: it was made for version 99 of",
        ),
        ("MDMKIT_API = 99\nimport no_such_module", "greet", "used: it was made for version 99 of"),
        (GREET, "greed", "AttributeError: module"),
        ("greet = 3", "greet", "TypeError: expected a function, got int"),
    ],
)
def test_a_command_that_cannot_be_used_says_why(
    install: Install, code: str, function: str, reason: str
) -> None:
    install("mdmkit-greet", code, greet=function)
    said = refused("greet", "--any", "thing")
    assert said.startswith('the command "greet" of mdmkit-greet 1.0 cannot be used: ')
    assert reason in said
    assert "Cannot be used; `mdmkit plugins doctor`" in mdmkit("--help").out
    assert mdmkit("recipes").code == 0


@pytest.mark.parametrize("name", ["bad name", "Loud", "-x"])
def test_a_command_has_a_name_that_can_be_typed(install: Install, name: str) -> None:
    install("mdmkit-greet", GREET, **{name: "greet"})
    assert "Cannot be used; `mdmkit plugins doctor`" in mdmkit("--help").out
    if name[0] != "-":
        assert "used: its name is not made of small letters, digits and -" in refused(name, "you")


def test_two_commands_of_one_name_are_an_error_that_names_both(install: Install) -> None:
    install("mdmkit-greet", GREET, greet="greet")
    install("mdmkit-hello", GREET, greet="greet")
    said = refused("greet", "you")
    assert 'the command "greet": mdmkit-greet 1.0 and mdmkit-hello 1.0; uninstall one' in said


def test_a_wrong_restriction_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-nothing")
    assert 'MDMKIT_PLUGINS: no installed distribution "mdmkit-nothing"' in refused("greet")
    assert "Train a recipe" in mdmkit("--help").out
