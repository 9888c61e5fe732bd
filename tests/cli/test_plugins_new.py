"""``mdmkit plugins new``, and what it makes, installed and used as by a stranger."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from mdmkit.cli import plugins_new
from mdmkit.recipe_files import parse_overrides
from mdmkit.scaffold.names import KINDS

from .commands import changed, files, mdmkit, refused


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_it_made_and_how_to_go_on(here: Path) -> None:
    said = mdmkit("plugins", "new", "mdmkit-foo", "--hook", "evaluator")
    assert (said.code, said.err) == (0, "")
    assert said.lines[0] == 'mdmkit-foo: a plugin with the evaluator "foo"'
    assert said.lines[-1].strip() == "mdmkit run quickstart_bell --set evaluators.foo.use=foo"
    (path,) = re.findall(r"^its code: (\S+);", said.out, re.M)
    assert "class Foo:" in Path(path).read_text()
    assert [name for name in files(here) if name.endswith(".toml")] == ["mdmkit-foo/pyproject.toml"]


def test_component_and_folder_can_be_chosen(here: Path) -> None:
    options = ("--component", "bar", "--directory", "some/where")
    said = mdmkit("plugins", "new", "mdmkit-foo", "--hook", "corpus", *options)
    assert said.lines[0] == 'some/where: a plugin with the corpus "bar"'
    assert "    cd some/where" in said.lines
    assert said.lines[-1].endswith("--set data.corpus.use=bar")
    assert (here / "some" / "where" / "src" / "mdmkit_foo" / "py.typed").exists()


@pytest.mark.parametrize("name", ["42", "true", "nan"])
def test_the_commands_that_it_prints_can_be_typed(here: Path, name: str) -> None:
    options = ("--hook", "time_sampler", "--directory", "a folder")
    out = mdmkit("plugins", "new", f"mdmkit-{name}", *options).lines
    cd, *_, run = (shlex.split(line) for line in out[-4:])
    assert cd == ["cd", "a folder"]
    assert parse_overrides(run[-1:]).data == {"time_sampler": {"use": name}}


def test_a_mistake_is_said_in_words_and_makes_nothing(here: Path) -> None:
    new = ("plugins", "new", "mdmkit-bell")
    assert 'did you mean "time_sampler"?' in refused(*new, "--hook", "time_smapler")
    assert "choose another name with --component" in refused(*new, "--hook", "time_sampler")
    assert list(here.iterdir()) == []
    assert mdmkit(*new, "--hook", "tracker").code == 0
    before = files(here)
    assert "is there already and not empty" in refused(*new, "--hook", "tracker")
    assert files(here) == before


def test_the_help_names_every_hook() -> None:
    said = " ".join(mdmkit("plugins", "new", "--help").out.split())
    assert re.search(r"What it adds: ([\w, ]+) or (\w+)\.", said)
    listed = re.findall(r"What it adds: ([\w, ]+)\.", said)[0].replace(" or ", ", ")
    assert listed.split(", ") == list(KINDS)


def test_the_list_has_sub_commands_beside_it(here: Path) -> None:
    out = mdmkit("plugins").out
    assert out.startswith("distribution")
    assert "mdmkit_time_samplers" in out
    assert re.search(r"^  new  ", mdmkit("plugins", "--help").out, re.M)
    assert plugins_new.new.__doc__


# --- from nothing to a run, in an environment of its own


def environment(folder: Path) -> Callable[..., str]:
    """A new environment that sees what is installed in this one: ``python(arguments…)``."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    shared = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    line = "import site; " + "; ".join(f"site.addsitedir({path!r})" for path in sorted(shared))
    (Path(own) / "shared.pth").write_text(line + "\n")
    environ = {name: value for name, value in os.environ.items() if name != "MDMKIT_PLUGINS"}
    environ |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [python, "-m", *arguments],
            cwd=folder.parent / "work", env=environ | more, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_from_nothing_to_a_run_and_away_again(tmp_path: Path, tiny_recipe: Path) -> None:
    for package in ("pip", "hatchling"):
        pytest.importorskip(package, reason="to build and install a distribution")
    work = tmp_path / "work"
    made = mdmkit(
        "plugins", "new", "mdmkit-foo", "--hook", "time_sampler", "--directory", work / "mdmkit-foo"
    )
    assert made.code == 0
    python = environment(tmp_path / "environment")

    python("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "./mdmkit-foo")

    tested = python(
        "pytest", "mdmkit-foo", "-p", "no:cacheprovider", "--mdmkit-contract", "mdmkit-foo"
    )
    assert "5 passed" in tested  # three of its own, and two examples
    assert re.search(
        r"mdmkit-foo +0\.1\.0 +mdmkit_time_samplers +foo\n", python("mdmkit", "plugins")
    )

    options = ("time_sampler.use=foo", "train.steps=3", "train.validate_blocks=2", "evaluators={}")
    alone = {"MDMKIT_PLUGINS": "mdmkit-foo"}
    python("mdmkit", "run", str(tiny_recipe), *changed(*options), **alone)
    (run,) = (tmp_path / "runs").iterdir()
    assert 'use = "foo"\npower = 2.0' in (run / "recipe.toml").read_text()
    assert (run / "model.safetensors").exists()

    python("pip", "uninstall", "--quiet", "--yes", "mdmkit-foo")
    assert "mdmkit-foo" not in python("mdmkit", "plugins")
