"""Whatever a recipe or suite says: it is loaded, or refused in words; nothing is imported."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from mdmkit.errors import MdmkitError, RecipeError
from mdmkit.plain_files import LARGEST_TOML, parse_toml
from mdmkit.plugins import Catalogue
from mdmkit.recipe import dump_recipe, load_recipe, recipe_from_dict
from mdmkit.recipe_files import LONGEST_CHAIN
from mdmkit.shipped import RECIPES, SUITES
from mdmkit.suites import load_suite, suite_from_dict

from .fuzzing import FOR_TOML, TREES, WORDS, cases, changed_bytes, changed_tree, read_or_refused

BELL = RECIPES.path("quickstart_bell").read_bytes()
SUITE = b"""
title = "two"
[protocol]
packing.use = "packed"
[sets.one]
corpus.use = "ptb"
evaluator.use = "nelbo"
evaluator.draws = 2
[grids.steps]
evaluator.use = "generative_perplexity"
evaluator.sampler.use = "ancestral"
vary."evaluator.sampler.steps" = [4, 8]
vary."evaluator.sampler.temperature" = [0.5, 1.0]
"""
TOKENS = tuple(
    word.encode()
    for word in (
        *("[", "]", "[[", "]]", "{", "}", "=", ".", '"', "'", '"""', "#", "\n", "use = ", "inf"),
        *("nan", "0x" + "f" * 9000, "9" * 5000, "1979-05-27T07:32:00Z", "07:32:00", "[" * 3000),
        *("a." * 3000, "{a=" * 2000, "\\u0000", "\0", "\ufeff", "é", 'extends = "x.toml"\n'),
        *('extends = "/dev/zero"\n', 'extends = "../../../../etc/passwd"\n', "[__class__]\n"),
    )
)


def writable(tree: Any) -> bytes:
    """As TOML, or as near as it comes."""
    try:
        return tomli_w.dumps(tree).encode()
    except Exception:  # null, say: there is no TOML of it
        return repr(tree).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "base.toml").write_bytes(BELL)
    (folder / "suite.toml").write_bytes(SUITE)
    # What is needed for a good one is imported once.
    dump_recipe(load_recipe(folder / "base.toml", ["run.seed=3"], catalogue=catalogue), catalogue)
    load_suite(folder / "suite.toml", catalogue=catalogue)
    return folder


@cases(400)
@given(content=changed_bytes(BELL, TOKENS) | st.binary(max_size=60))
def test_bytes_of_a_recipe(folder: Path, catalogue: Catalogue, content: bytes) -> None:
    path = folder / "x.toml"
    path.write_bytes(content)
    read_or_refused(lambda: load_recipe(path, catalogue=catalogue))


@cases(450)
@given(tree=changed_tree(tomllib.loads(BELL.decode()), FOR_TOML))
def test_values_of_a_recipe(folder: Path, catalogue: Catalogue, tree: Any) -> None:
    path = folder / "x.toml"
    path.write_bytes(writable(tree))
    loaded = read_or_refused(lambda: load_recipe(path, catalogue=catalogue))
    if not isinstance(loaded, MdmkitError):
        plain = dump_recipe(loaded, catalogue)
        assert recipe_from_dict(plain, catalogue=catalogue) == loaded


@cases(150)
@given(
    key=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=4).map(".".join)
    | st.sampled_from(["train.steps", "evaluators.x", "data.corpus", "time_sampler", "a." * 99]),
    value=TREES.map(str) | st.sampled_from([token.decode() for token in TOKENS]),
)
def test_overrides(folder: Path, catalogue: Catalogue, key: str, value: str) -> None:
    path = folder / "base.toml"
    read_or_refused(lambda: load_recipe(path, [f"{key}={value}"], catalogue=catalogue))


@cases(150)
@given(content=changed_bytes(SUITE, TOKENS))
def test_bytes_of_a_suite(folder: Path, catalogue: Catalogue, content: bytes) -> None:
    path = folder / "y.toml"
    path.write_bytes(content)
    read_or_refused(lambda: load_suite(path, catalogue=catalogue))


@cases(150)
@given(tree=changed_tree(tomllib.loads(SUITE.decode()), FOR_TOML), label=st.sampled_from(WORDS))
def test_values_of_a_suite(folder: Path, catalogue: Catalogue, tree: Any, label: str) -> None:
    path = folder / "y.toml"
    path.write_bytes(writable(tree))
    read_or_refused(lambda: load_suite(path, sources={label: "x"}, catalogue=catalogue))
    read_or_refused(lambda: suite_from_dict({"name": "s", **tree}, "x", catalogue=catalogue))


# --- one by one ----------------------------------------------------------------------------


def refused(catalogue: Catalogue, path: Path | str) -> str:
    error = read_or_refused(lambda: load_recipe(path, catalogue=catalogue))
    assert isinstance(error, RecipeError), error
    return str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = " + "[" * 10_000 + "]" * 10_000, "nested too deep; expected 32"),
        ("a = " + "{a = " * 10_000 + "1" + "}" * 10_000, "nested too deep; expected 32"),
        ("a = " + "[" * 33 + "]" * 33, "nested too deep; expected 32"),
        (".".join("a" * 400) + " = 1", "nested too deep; expected 32"),
        (".".join("a" * 1_000) + " = 1", "a line has more than 500 dots"),
        ("[" + ".".join("1" * 100_000) + "]", "a line has more than 500 dots"),
        ("[" + " . ".join(["'.'"] * 30_000) + "]", "a line has more than 500 dots"),
        ('"' + '\\"' * 120_000, "not valid TOML"),
        ("a" * 250_000, "not valid TOML"),
        ("1" * 250_000 + " = 1", "unknown key"),
        ("train.steps = 0x" + "f" * 100_000, "an integer has thousands of digits"),
        ("train.steps = " + "9" * 100_000, "not valid TOML"),
        ("#" * LARGEST_TOML + "\n", "262,145 bytes; expected 262,144 at most"),
        ("".join(f"key{n} = 1\n" for n in range(15_000)), "and 14,804 more problems"),
    ],
)
def test_what_is_too_much(tmp_path: Path, catalogue: Catalogue, content: str, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(content)
    assert message in refused(catalogue, path)


def test_components_inside_each_other_as_deep_as_tables_may_be(
    folder: Path, catalogue: Catalogue
) -> None:
    for depth, problem in ((30, None), (31, "nested too deep")):
        table = 'use = "uniform"'
        for _ in range(depth):
            table = f'use = "annealed", start = {{{table}}}, end = {{use = "uniform"}}'
        override = f"time_sampler={{{table}}}"
        loaded = read_or_refused(
            lambda text=override: load_recipe(folder / "base.toml", [text], catalogue=catalogue)
        )
        assert isinstance(loaded, RecipeError) == (problem is not None)


def test_integers_that_no_machine_has(folder: Path, catalogue: Catalogue) -> None:
    for number in (2**63, -(10**4000), 16**3000):
        for key in ("run.seed", "learning_rate.peak", "data.length"):
            override = f"{key}={number:#x}" if number > 0 else f"{key}={number}"
            error = read_or_refused(
                lambda text=override: load_recipe(folder / "base.toml", [text], catalogue=catalogue)
            )
            fine = key == "learning_rate.peak" and number == 2**63
            assert isinstance(error, RecipeError) != fine, (key, number)
    assert math.isfinite(2.0**63)


def test_extends_goes_only_so_far(tmp_path: Path, catalogue: Catalogue) -> None:
    for number in range(LONGEST_CHAIN + 5):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n')
    assert f"expected {LONGEST_CHAIN} files at most" in refused(catalogue, tmp_path / "0.toml")


@pytest.mark.parametrize(
    "name",
    [
        *("/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/self/environ", "/etc/passwd", "/"),
        *(".", "..", "pipe.toml", "loop.toml", "x" * 5000, "x/" * 2000, "a\\u0000b.toml", "~"),
        *("https://example.org/x.toml", "file:///etc/passwd", "os.system", "mdmkit.recipe"),
    ],
)
def test_extends_of_what_is_no_recipe(tmp_path: Path, catalogue: Catalogue, name: str) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "x.toml").write_text(f'extends = "{name}"\n')
    said = refused(catalogue, tmp_path / "x.toml")
    assert "root:" not in said  # nothing of a foreign file is repeated


def test_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    assert "cannot be read: Permission denied" in refused(catalogue, tmp_path / "x.toml")


def test_many_values_of_a_grid(tmp_path: Path, catalogue: Catalogue) -> None:
    path = tmp_path / "x.toml"
    values = ",".join("1" for _ in range(30_000))
    path.write_text(f'[grids.g]\nevaluator.use = "nelbo"\nvary."evaluator.draws" = [{values}]\n')
    error = read_or_refused(lambda: load_suite(path, catalogue=catalogue))
    assert "1 is there 30000 times" in str(error)
    axes = "".join(
        f'vary."evaluator.x{n}" = [{",".join(map(str, range(99)))}]\n' for n in range(400)
    )
    path.write_text(f'[grids.g]\nevaluator.use = "nelbo"\n{axes}')
    error = read_or_refused(lambda: load_suite(path, catalogue=catalogue))
    assert "makes far too many sets" in str(error)


def test_names_that_are_shipped_lead_nowhere_else() -> None:
    for name in ("../pyproject", "/etc/passwd", "suites/../../x", ""):
        for shelf in (RECIPES, SUITES):
            with pytest.raises(RecipeError, match="no shipped"):
                shelf.path(name)


def test_a_key_of_as_many_names_as_are_allowed() -> None:
    assert parse_toml("[" + ".".join("a" * 31) + "]")
    assert parse_toml("x = [" + ",".join("0.5" for _ in range(1000)) + "]")
    assert parse_toml('x = "' + "a." * 500 + '"')
