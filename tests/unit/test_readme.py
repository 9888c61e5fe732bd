"""The README is the front door: what it shows is run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import mdmkit
from mdmkit.cli.app import app
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import recipe_names
from mdmkit.testing import check_component

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_the_readme", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_two_commands_are_there_to_be_copied() -> None:
    assert re.findall(r"^    (pip .*)$", section("Quick start"), re.MULTILINE) == [
        "pip install -c constraints.txt -e . && mdmkit run recipes/quickstart_bell.toml",
        "pip install -c constraints.txt -e '.[dev]' && pytest",
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "dev" in project["optional-dependencies"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in README
    (torch,) = (line for line in project["dependencies"] if line.startswith("torch>="))
    assert f"({torch.removeprefix('torch>=')} or newer)" in section("Quick start")


def test_the_recipe_that_is_explained_is_the_one_that_ships() -> None:
    (shown,) = blocks("One recipe, line by line", "toml")
    shipped = (ROOT / "recipes" / "quickstart_bell.toml").read_text(encoding="utf-8")
    assert tomllib.loads(shown) == tomllib.loads(shipped)


def test_the_plugin_keeps_its_contract_and_a_recipe_can_use_it(
    distribution: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks("Add a component in 30 lines", "python")
    pyproject, recipe = blocks("Add a component in 30 lines", "toml")
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    project = tomllib.loads(pyproject)["project"]
    ((entry, module),) = project["entry-points"]["mdmkit"].items()
    assert f"`{module}.py`:" in README

    distribution(project["name"], code, version=project["version"], entry=entry)
    monkeypatch.setenv("MDMKIT_PLUGINS", project["name"])
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    path = tmp_path / "halfway.toml"
    path.write_text(recipe)
    weighting: Any = mdmkit.load_recipe(path, catalogue=catalogue).loss_weighting
    assert type(weighting).__name__ == "InversePower"
    for power in (0.0, 0.5, 1.0):
        check_component("mdmkit_loss_weightings", type(weighting)(power=power))
    with pytest.raises(mdmkit.RecipeError, match="power: expected a value >= 0 and <= 1"):
        mdmkit.load_recipe(path, ["loss_weighting.power=2"], catalogue=catalogue)


def test_the_python_snippet_runs(
    tiny_recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("From Python", "python")
    assert '"quickstart_bell"' in code
    scope: dict[str, Any] = {"__name__": "readme"}
    code = code.replace('"quickstart_bell"', repr(str(tiny_recipe)))
    exec(compile(code, "README.md", "exec", dont_inherit=True), scope)
    assert (tmp_path / "report.html").exists()
    assert scope["recipe"].run.seed == 2
    assert re.search(r"^held_out: \d\.\d{4} ± \d\.\d{4} nats/token$", capsys.readouterr().out, re.M)
    assert set(scope["again"]) == {"held_out"}
    assert scope["again"]["held_out"].provenance["checkpoint"]["ema"] is False
    for text in scope["texts"]:
        assert text.text.startswith("The")
        assert text.text.endswith(" sea.")
    assert scope["state"].texts[0].masks == 0


# --- commands


def commands(group: Any, above: str = "mdmkit") -> Iterator[tuple[str, Any]]:
    """Every command by what one types."""
    for name, command in group.commands.items():
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"{above} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{above} {name}")


COMMANDS = dict(commands(typer.main.get_command(app)))


def flags(command: Any) -> set[str]:
    return {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}


def shown(page: Path) -> Iterator[list[str]]:
    """The words of each mdmkit command in the code of a page."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in [*"".join(fenced).splitlines(), *re.findall(r"^    \S.*$", text, re.MULTILINE)]:
        for part in line.split("&&"):
            if match := re.match(r"\s*(?:torchrun .* -m )?(mdmkit [a-z].*)", part):
                yield shlex.split(match[1], comments=True)


def test_every_command_is_in_the_table_with_options_that_it_has() -> None:
    rows = re.findall(r"^\| `(mdmkit [a-z ]+?)(?: [A-Z…]+)?` \| (.*)$", section("Commands"), re.M)
    assert sorted(name for name, _ in rows) == sorted(COMMANDS)
    for name, about in rows:
        assert set(re.findall(r"--[a-z-]+", about)) <= flags(COMMANDS[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_that_is_shown_can_be_given(page: Path) -> None:
    for words in shown(page):
        length = next(n for n in (3, 2) if " ".join(words[:n]) in COMMANDS)
        known = flags(COMMANDS[" ".join(words[:length])])
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, words
        overrides = [value for flag, value in pairwise(words) if flag == "--set"]
        recipes = [name for name in words[length:] if Path(name).stem in recipe_names()]
        for name in recipes:
            mdmkit.load_recipe(Path(name).stem, overrides)


def test_there_are_commands_to_try() -> None:
    assert {words[1] for page in PAGES for words in shown(page)} >= {
        "run",
        "check",
        "show",
        "recipes",
    }


# --- what it says of the code


def test_the_rooms_are_all_there_and_in_the_order_of_imports() -> None:
    floor = module_of(ROOT / "tests" / "unit" / "test_imports.py").FLOOR
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", section("The rooms"), re.MULTILINE)
    rooms = [re.findall(r"\w+", row) for row in rows]
    package = Path(mdmkit.__file__).parent
    there = {path.stem for path in package.glob("*.py")} | {
        p.parent.name for p in package.glob("*/__init__.py")
    }
    assert {room for row in rooms for room in row} == there - {"__init__", "__main__", "builtin"}
    for above, below in pairwise(rooms):
        assert max(floor[room] for room in above) < min(floor[room] for room in below)


def test_the_figures_are_those_that_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = module_of(ROOT / "benchmarks" / "quickstart_curves.py")
    assert README.count(curves.BEGIN) == README.count(curves.END) == 1
    table = README.partition(curves.BEGIN)[2].partition(curves.END)[0].strip().splitlines()
    if curves.RESULTS.exists():
        copy = tmp_path / "README.md"
        copy.write_text(README, encoding="utf-8")
        monkeypatch.setattr(curves, "README", copy)
        curves.fill_readme(curves.by_recipe())
        assert copy.read_text(encoding="utf-8") == README, (
            "python benchmarks/quickstart_curves.py draw"
        )
    else:
        assert len(table) == 2, "figures without the results that they come from"
    assert curves.FIGURE.exists() == curves.RESULTS.exists()


def test_the_changelog_names_every_component_and_recipe() -> None:
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    named = set(re.findall(r"`(\w+)`", CHANGELOG))
    assert {component.name for component in catalogue.components} <= named
    assert set(recipe_names()) <= named


def test_pages_of_measurements_are_made_from_the_results() -> None:
    pages = module_of(ROOT / "benchmarks" / "pages.py")
    marked: list[str] = []
    for place in pages.PAGES:
        text = place.read_text(encoding="utf-8")
        assert pages.filled(text) == text, "python benchmarks/pages.py"
        marked += re.findall(r"<!-- (\w+): begin -->", text)
    assert sorted(marked) == sorted(pages.TABLES)
