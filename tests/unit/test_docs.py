"""The pages of docs/ cannot rot: their reference is generated, and what they show is tried.

After a change of options, ``python tests/unit/test_docs.py`` writes the reference of
docs/recipes.md anew.
"""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import pytest

import mdmkit
from mdmkit import hookspecs, protocols
from mdmkit.choices import all_choices
from mdmkit.contracts import HOOKS
from mdmkit.option_words import option_rows
from mdmkit.options import DEFAULT_USE
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import CLOSED_TABLES, Recipe, dump_recipe, load_recipe, recipe_names
from mdmkit.report.curves import effective_curves

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes.md"
HOW = ROOT / "docs" / "how_a_run_works.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})
CHOICES = all_choices(CATALOGUE, CLOSED_TABLES)
BY_PROTOCOL = {point.protocol: hook for hook, point in HOOKS.items()}


# --- the reference, from the attrs tree


def rendered() -> str:
    """The whole reference of docs/recipes.md."""
    return "\n\n".join(_table_of(Recipe, ())) + "\n"


def _table_of(cls: type, path: tuple[str, ...]) -> Iterator[str]:
    """The sections of an attrs class: its own keys, then the tables in it."""
    attrs.resolve_types(cls)
    fields = attrs.fields(cls)
    tables = [field for field in fields if _is_table(field.type)]
    if path:
        yield f"### `[{'.'.join(path)}]`"
        yield _words(inspect.getdoc(cls) or "").partition(": ")[2].capitalize()
        yield _options([field for field in fields if field not in tables])
    for field in tables:
        here = (*path, field.name)
        if get_origin(field.type) in (Mapping, dict) or "Mapping" in str(field.type):
            yield from _component(
                (*here, "<label>"), get_args(field.type)[1], "any number, or none"
            )
        elif _is_choice(field.type):
            default = field.metadata.get(DEFAULT_USE)
            which = f'`use = "{default}"` by default' if default else "required"
            yield from _component(here, field.type, which)
        else:
            yield from _table_of(field.type, here)


def _component(path: tuple[str, ...], annotation: Any, which: str) -> Iterator[str]:
    """The sections of a table that chooses a component: one for each name."""
    spec = getattr(hookspecs, BY_PROTOCOL[annotation]) if annotation in BY_PROTOCOL else annotation
    about = (inspect.getdoc(spec) or "").partition(", for the table")[0]
    about = about.removeprefix("Options of ").capitalize()
    yield f"### `[{'.'.join(path)}]`"
    yield f"{about} ({which})."
    for name, cls in CHOICES[annotation].classes.items():
        attrs.resolve_types(cls)
        yield f'#### `use = "{name}"`'
        yield _words(inspect.getdoc(cls) or "")
        yield _options([field for field in attrs.fields(cls) if field.init])


def _options(fields: list[attrs.Attribute[Any]]) -> str:
    if not fields:
        return "No options."
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for row in option_rows(fields, CHOICES, quote="`"):
        cells = (f"`{row.key}`", row.value, row.default, row.meaning)
        escaped = (_words(cell).replace("|", chr(92) + "|") for cell in cells)
        rows.append(f"| {' | '.join(escaped)} |")
    return "\n".join(rows)


def _is_choice(annotation: Any) -> bool:
    return any(annotation is known for known in CHOICES)


def _is_table(annotation: Any) -> bool:
    inside = get_args(annotation)
    held = inside[1] if len(inside) == 2 else annotation
    return _is_choice(held) or (isinstance(held, type) and attrs.has(held))


def _words(text: str) -> str:
    return text.replace("``", "`")


def test_the_reference_of_recipes_is_what_the_classes_say() -> None:
    found = RECIPES.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert found == rendered().strip(), "write it anew: python tests/unit/test_docs.py"


def documented() -> dict[str, dict[str, str]]:
    """Key and default of each table in docs/recipes.md, by ``table`` or ``table use``."""
    sections: dict[str, dict[str, str]] = {}
    table = name = ""
    for line in RECIPES.read_text(encoding="utf-8").partition(BEGIN)[2].splitlines():
        if match := re.fullmatch(r"### `\[(.+)\]`", line):
            table, name = match[1], ""
        elif match := re.fullmatch(r'#### `use = "(.+)"`', line):
            name = match[1]
        elif match := re.match(r"\| `([\w.]+)` \| .*? \| (.+?) \| ", line):
            sections.setdefault(f"{table} {name}".strip(), {})[match[1]] = match[2].strip("`")
        sections.setdefault(f"{table} {name}".strip(), {})
    return sections


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_of_a_resolved_recipe_is_in_the_reference(name: str) -> None:
    sections = documented()
    written = tomllib.loads((ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))
    pending: list[tuple[str, Any]] = list(
        dump_recipe(load_recipe(name, catalogue=CATALOGUE)).items()
    )
    compared = 0
    while pending:
        table, keys = pending.pop()
        labelled = re.sub(r"^(evaluators|trackers)\..+", r"\1.<label>", table)
        section = f"{labelled} {keys.get('use', '')}".strip()
        for key, value in _flat(keys):
            if isinstance(value, dict):
                pending.append((f"{table}.{key}", value))
            elif key != "use":
                default = sections[section][key]
                if "extends" not in written and not _says(written, f"{table}.{key}"):
                    assert tomllib.loads(f"x = {default}")["x"] == value, f"{section}: {key}"
                    compared += 1
    assert compared > 20 or "extends" in written


def _flat(keys: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values; a table inside a component that chooses nothing, by dotted keys."""
    for key, value in keys.items():
        if "use" in keys and isinstance(value, dict) and "use" not in value:
            yield from ((f"{key}.{inner}", entry) for inner, entry in value.items())
        else:
            yield key, value


def _says(data: Any, path: str) -> bool:
    for key in path.split("."):
        data = data.get(key, {}) if isinstance(data, dict) else {}
    return data != {}


# --- what the pages say of the code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_at_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    drawn = "docs/quickstart.svg"  # only there once it has been measured; see test_readme.py
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert target == drawn or (page.parent / target).exists(), target
    for path in re.findall(r"`((?:mdmkit|docs|recipes|tests|plugins|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`mdmkit\.([\w.]+)", text):
        module, _, attribute = f"mdmkit.{name}".rpartition(".")
        imported = __import__(module, fromlist=[attribute])
        assert hasattr(imported, attribute) or (ROOT / module.replace(".", "/")).is_dir(), name


def test_every_environment_variable_is_documented() -> None:
    used = {
        name
        for path in Path(mdmkit.__file__).parent.rglob("*.py")
        for name in re.findall(r"MDMKIT_[A-Z_]+", path.read_text(encoding="utf-8"))
    }
    pages = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    of_tests = "MDMKIT_FUZZ_EXAMPLES"
    assert used | {of_tests} == set(re.findall(r"MDMKIT_[A-Z_]+", pages))


def test_the_errors_that_are_shown_are_the_errors_that_come(tmp_path: Path) -> None:
    text = RECIPES.read_text(encoding="utf-8")
    recipe, errors = re.findall(
        r"```(?:toml|text)\n(.*?)```", text.partition("## Strict")[2], re.S
    )[:2]
    path = tmp_path / "mine.toml"
    path.write_text(recipe)
    with pytest.raises(mdmkit.RecipeError) as caught:
        load_recipe(path, catalogue=CATALOGUE)
    assert str(caught.value).replace(str(path), "mine.toml") == errors.strip()


def test_the_run_directory_is_as_described(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.steps=4", "train.diagnose_every=2"])
    directory = mdmkit.train(recipe).directory
    text = HOW.read_text(encoding="utf-8")
    (layout,) = re.findall(r"```text\nruns/.*?```", text, re.S)
    told = set(re.findall(r"^ +([\w.<>/…-]+)", layout, re.M))
    found = set()
    for path in directory.rglob("*"):
        if path.is_file() and path.name != ".lock":
            name = re.sub(r"step-\d+", "step-…", str(path.relative_to(directory)))
            name = re.sub(r"eval/.+\.json", "eval/<label>.json", name)
            found.add(next((e for e in told if e.endswith("/") and name.startswith(e)), name))
    assert found == told
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    logged = {key for line in lines for key in json.loads(line)}
    logged = {re.sub(r"(train/nll_at_t)/0\.\d5", r"\1/<t>", key) for key in logged}
    (figures,) = re.findall(r"\| figure \|.*?\n\n", text, re.S)
    assert logged == set(re.findall(r"^\| `([\w/<>]+)`", figures, re.M))


# --- the table of what a loss minimises


def objectives() -> list[tuple[str, str, str]]:
    """Weighting, normaliser and verdict of each row of the table."""
    text = HOW.read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \| `(\w+)` \| .* \| ([^|]+?) \|$", text, re.M)


def test_the_table_has_every_weighting_and_normaliser_once() -> None:
    weightings = CATALOGUE.of("mdmkit_loss_weightings")
    names = {name for name, weighting in weightings.items() if not hasattr(weighting.cls, "build")}
    below = HOW.read_text(encoding="utf-8").partition("### What a training loss minimises")[2]
    for name in set(weightings) - names:  # it takes a run to know their weight
        assert f"* `{name}`" in below.partition("###")[0]
    pairs = [(weighting, normalizer) for weighting, normalizer, _ in objectives()]
    assert sorted(pairs) == sorted((w, n) for w in names for n in get_args(protocols.Normalizer))


@pytest.mark.parametrize(("weighting", "normalizer", "verdict"), objectives())
def test_which_losses_are_the_nelbo(weighting: str, normalizer: str, verdict: str) -> None:
    shapes = {}
    for sampler in ("uniform", "bell"):
        choice = [f"time_sampler.use={sampler}", f"loss_weighting.use={weighting}"]
        choice += ["time_sampler.width=0.2"] if sampler == "bell" else []
        recipe = load_recipe(
            "quickstart_bell", [*choice, f"loss_weighting.normalizer={normalizer}"]
        )
        shapes[sampler] = effective_curves(recipe).weight
    level = {sampler: max(w) / min(w) < 1.001 for sampler, w in shapes.items()}
    exact = {name: level[name] and abs(max(w) - 1) < 1e-3 for name, w in shapes.items()}
    with_uniform, factor = "uniform t" in verdict, "factor" in verdict
    if verdict == "no":
        assert level == {"uniform": False, "bell": False}
    else:
        assert level == {"uniform": True, "bell": not with_uniform}
    if verdict.startswith("yes") and not factor:
        assert exact["uniform"]
        assert exact["bell"] is not with_uniform
    assert verdict.split()[0].strip(",") in ("yes", "no")


if __name__ == "__main__":
    page = RECIPES.read_text(encoding="utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    RECIPES.write_text(f"{before}{BEGIN}\n\n{rendered()}\n{END}{after}", encoding="utf-8")
