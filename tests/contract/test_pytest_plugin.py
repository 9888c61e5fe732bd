"""``pytest --mdmkit-contract``, run as a user runs it, on distributions that are made up here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def test_without_a_test_file_a_sound_plugin_passes(
    run_pytest: Callable[..., Any],
    distribution: Callable[..., Path],
    triangle: str,
    folder: Path,
) -> None:
    sound = triangle.replace("class Triangle:", 'class Triangle:\n            """q(t) = 2t."""')
    sound = sound.replace("u.sqrt()", "u.sqrt().clamp(max=1 - 2**-53)")
    plugin = distribution("mdmkit-triangle", sound)
    outcome = run_pytest(folder, "-v", "--mdmkit-contract", "MDMKIT_Triangle", plugin=plugin)
    assert outcome.status == 0, outcome.output
    assert "mdmkit-contract::mdmkit-triangle::time_samplers::triangle PASSED" in outcome.output
    assert "collected 1 item" in outcome.output
    assert "slope" not in outcome.output


CONFTEST = """
from plugin_of_the_author import Triangle

def pytest_mdmkit_contract_examples(directory):
    assert directory.is_dir()
    return [Triangle(), Triangle(slope=3.0), (Triangle(slope=0.5), {"steps": (7,)})]
"""


def test_beside_tests_of_the_author_with_examples_of_a_conftest(
    run_pytest: Callable[..., Any],
    distribution: Callable[..., Path],
    triangle: str,
    folder: Path,
) -> None:
    plugin = distribution("mdmkit-triangle", triangle)
    (module,) = plugin.glob("plugin_*.py")
    conftest = CONFTEST.replace("plugin_of_the_author", module.stem)
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text(conftest)
    (folder / "tests" / "test_own.py").write_text("def test_own(): pass\n")
    arguments = ("-v", "--mdmkit-contract", "mdmkit-triangle", "-k", "own or 3.0")
    # the restriction is for runs; what is asked for here is checked
    outcome = run_pytest(folder, *arguments, plugin=plugin, MDMKIT_PLUGINS="none")
    assert outcome.status == 1, outcome.output
    ids = re.findall(r"^(\S+) (PASSED|FAILED)", outcome.output, re.M)
    assert ids == [
        ("tests/test_own.py::test_own", "PASSED"),
        ("mdmkit-contract::mdmkit-triangle::time_samplers::triangle[slope=3.0]", "FAILED"),
    ]
    assert "collected 4 items / 2 deselected / 2 selected" in outcome.output
    assert re.search(
        r"^FAILED mdmkit-contract\S+ - the class has a docstring$", outcome.output, re.M
    )


def test_a_plugin_that_cannot_be_imported_fails_with_the_reason_and_the_place(
    run_pytest: Callable[..., Any], distribution: Callable[..., Path], folder: Path
) -> None:
    plugin = distribution("mdmkit-broken", "import no_such_module\n", entry="bad")
    outcome = run_pytest(folder, "--mdmkit-contract", "mdmkit-broken", plugin=plugin)
    assert outcome.status == 1
    text = outcome.output.partition("mdmkit-contract::mdmkit-broken::plugin::bad")[2]
    assert "found: ModuleNotFoundError: No module named 'no_such_module'" in text
    assert re.search(r"    \S*plugin_\w+\.py:1, in <module>", text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mdmkit-triangel", 'no distribution "mdmkit-triangel" is installed; did you mean '),
        (
            "attrs",
            'is installed, but provides no plugin: it has no entry point in the group "mdmkit"',
        ),
        ("no such name!", 'no distribution "no such name!" is installed'),
    ],
)
def test_what_has_no_plugin_is_a_usage_error_that_says_what_has(
    run_pytest: Callable[..., Any],
    distribution: Callable[..., Path],
    triangle: str,
    folder: Path,
    name: str,
    message: str,
) -> None:
    plugin = distribution("mdmkit-triangle", triangle)
    outcome = run_pytest(folder, "--mdmkit-contract", name, plugin=plugin)
    assert outcome.status == pytest.ExitCode.USAGE_ERROR
    (line,) = outcome.output.strip().splitlines()
    assert line.startswith("ERROR: --mdmkit-contract: ")
    assert message in line
    assert re.search(r"distributions with plugins: mdmkit, .*mdmkit-triangle", line)


LOADED = """
import sys

def pytest_unconfigure():
    print("loaded:", *sorted(n for n in sys.modules if n.split(".")[0] in ("torch", "mdmkit")))
"""


def test_without_the_option_next_to_nothing_is_imported(
    run_pytest: Callable[..., Any], folder: Path
) -> None:
    (folder / "conftest.py").write_text(LOADED)
    (folder / "test_own.py").write_text("def test_own(): pass\n")
    outcome = run_pytest(folder)
    assert outcome.status == 0
    loaded = re.findall(r"loaded: (.*)", outcome.output)
    assert loaded == ["mdmkit mdmkit.testing mdmkit.testing.pytest_plugin"]
