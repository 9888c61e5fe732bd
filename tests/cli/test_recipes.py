"""Every shipped recipe is valid, and what `show` prints of it is the same recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdmkit.recipe import load_recipe, recipe_hash, recipe_names, recipe_path

from .commands import mdmkit

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes").glob("*.toml"))


def test_all_recipes_of_the_repository_are_shipped() -> None:
    assert recipe_names() == NAMES
    assert {"quickstart_bell", "quickstart_uniform", "lm1b_bell", "lm1b_uniform"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_check_by_name_and_by_path(name: str) -> None:
    path = recipe_path(name)
    said = mdmkit("check", name, path)
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{name}: ok\n{path}: ok\n"
    assert load_recipe(name).run.name == name  # runs are found by it


@pytest.mark.parametrize("name", NAMES)
def test_what_show_prints_is_the_same_recipe(name: str, tmp_path: Path) -> None:
    said = mdmkit("show", name)
    assert (said.code, said.err) == (0, "")
    path = tmp_path / "shown.toml"
    path.write_text(said.out, encoding="utf-8")
    shown, recipe = load_recipe(path), load_recipe(name)
    assert shown == recipe
    assert recipe_hash(shown) == recipe_hash(recipe)
    assert mdmkit("show", path).out == said.out
