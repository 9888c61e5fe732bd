"""``mdmkit plugins show`` and ``mdmkit plugins doctor``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

import mdmkit as package
from mdmkit import API_VERSION
from mdmkit.choices import all_choices
from mdmkit.cli.plugins_show import described
from mdmkit.plugins import load_catalogue
from mdmkit.recipe import CLOSED_TABLES
from tests.cli.commands import Said, mdmkit, refused, typed

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")


# --- show


def test_show_says_options_types_defaults_documentation_and_source() -> None:
    said = mdmkit("plugins", "show", "bell")
    assert said.lines[0] == "bell: time sampler of mdmkit 0.1.0 (mdmkit.builtin.time_samplers)"
    assert "A normal density truncated to (0, 1), with an optional uniform floor." in said.out
    source, line = said.lines[1].rpartition(", ")[2].rsplit(":", 1)
    assert "class Bell" in "".join(Path(source).read_text().splitlines()[int(line) :][:1])
    (width,) = (row.split("  ") for row in said.lines if row.startswith("width"))
    assert [cell.strip() for cell in width if cell.strip()] == [
        "width", "number > 0 and <= 1000", "0.2", "standard deviation before truncation, in t",
    ]  # fmt: skip


def test_a_name_of_two_hooks_is_shown_twice_or_as_asked() -> None:
    both = json.loads(mdmkit("plugins", "show", "autoregressive", "--json").out)
    assert {one["kind"] for one in both} == {"objective", "sampler"}
    for hook in ("sampler", "mdmkit_samplers"):
        (one,) = json.loads(
            mdmkit("plugins", "show", "autoregressive", "--hook", hook, "--json").out
        )
        assert one["kind"] == "sampler"


def test_every_component_can_be_shown() -> None:
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    choices = all_choices(catalogue, CLOSED_TABLES)
    names = {name for choice in choices.values() for name in choice.classes}
    for name in names:
        for one in described(name, None, catalogue, choices):
            assert one["doc"], name
            assert Path(one["source"].rpartition(":")[0]).is_file(), name
            assert all(row["meaning"] and row["value"] for row in one["options"]), name
    assert len(names) > 60


def test_what_cannot_be_shown_says_what_may_have_been_meant() -> None:
    assert 'no component "bel"; did you mean "bell"?' in refused("plugins", "show", "bel")
    said = refused("plugins", "show", "bell", "--hook", "time_smapler")
    assert 'there is no "time_smapler"; did you mean "time_sampler"? known: corpus, den' in said
    assert 'there is no sampler "bell"' in refused("plugins", "show", "bell", "--hook", "sampler")


# --- doctor


def doctor(monkeypatch: pytest.MonkeyPatch, plugins: str, code: int = 1) -> Said:
    monkeypatch.setenv("MDMKIT_PLUGINS", plugins)
    said = typed("plugins", "doctor", "--json")
    assert (said.code, said.err) == (code, "")
    return said


def only_problem(said: Said) -> dict[str, str]:
    (problem,) = (p for p in json.loads(said.out)["problems"] if "installed is" not in p["what"])
    found: dict[str, str] = problem
    return found


def test_the_healthy_are_listed(
    distribution: Install, triangle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(
        "mdmkit-triangle",
        "import mdmkit\nMDMKIT_API = mdmkit.API_VERSION\n" + textwrap.dedent(triangle),
    )
    said = json.loads(doctor(monkeypatch, "mdmkit-triangle", code=0).out)
    (row,) = (row for row in said["plugins"] if row["distribution"] == "mdmkit-triangle")
    assert (row["state"], row["api"]) == ("loaded", API_VERSION)
    assert row["provides"] == "time sampler triangle"
    assert said["problems"] == []
    out = typed("plugins", "doctor").out
    assert out.startswith(f"mdmkit {package.__version__}, plugin API {API_VERSION}\n")
    assert out.endswith("\nno problems\n")
    said = json.loads(doctor(monkeypatch, "none", code=0).out)
    assert {row["state"] for row in said["plugins"]} == {"left out"}


@pytest.mark.parametrize(
    ("code", "what", "remedy"),
    [
        (
            "import some_missing_module.part",
            "cannot be loaded: ModuleNotFoundError: No module named 'some_missing_module'",
            "run: pip install some_missing_module",
        ),
        (
            "from mdmkit import nothing_of_that_name",
            "cannot be loaded: ImportError: cannot import name 'nothing_of_that_name'",
            "mdmkit-odd 1.0 was made for another version of what it imports from",
        ),
        (
            "import mdmkit.no_such_part",
            "cannot be loaded: ModuleNotFoundError: No module named 'mdmkit.no_such_part'",
            f"made for another version of mdmkit, this is {package.__version__}; install one that",
        ),
        (
            "MDMKIT_API = 7",
            "made for version 7 of the plugin API",
            f"for the versions {package.OLDEST_API} to {API_VERSION}",
        ),
        ("1 / 0", "cannot be loaded: ZeroDivisionError", "pip uninstall mdmkit-odd"),
    ],
)
def test_what_cannot_be_loaded_is_explained(
    distribution: Install, monkeypatch: pytest.MonkeyPatch, code: str, what: str, remedy: str
) -> None:
    root = distribution("mdmkit-odd", code)
    problem = only_problem(doctor(monkeypatch, "mdmkit-odd"))
    assert problem["where"] == "mdmkit-odd 1.0 (plugin)"
    assert what in problem["what"]
    assert remedy in problem["remedy"]
    assert (f"{root.name}.py" in problem["traceback"]) == ("API" not in code)
    out = typed("plugins", "doctor").out
    assert "broken" in out
    assert "\n1 problem\n" in out
    assert len(typed("plugins", "doctor", "--verbose").lines) > len(out.splitlines())


def test_requirements_that_are_not_met_are_named(
    distribution: Install, triangle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = distribution("mdmkit-triangle", triangle)
    (metadata,) = root.glob("*.dist-info/METADATA")
    needs = ["mdmkit>=99", "attrs<2", "some-missing-package>=2", 'other; extra == "more"', "pluggy"]
    metadata.write_text(metadata.read_text() + "".join(f"Requires-Dist: {n}\n" for n in needs))
    problems = json.loads(doctor(monkeypatch, "mdmkit-triangle").out)["problems"]
    what = [problem["what"] for problem in problems]
    assert what[0] == f"needs mdmkit>=99; installed is {package.__version__}"
    assert what[1].startswith("needs attrs<2; installed is ")
    assert what[2:] == ["needs some-missing-package, which is not installed"]
    assert 'pip install "some-missing-package>=2"' in problems[2]["remedy"]
    assert (
        f"mdmkit-triangle that was made for mdmkit {package.__version__}" in problems[0]["remedy"]
    )


def test_names_of_two_plugins_are_named(
    distribution: Install, triangle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution("mdmkit-one", triangle)
    distribution("mdmkit-two", triangle)
    distribution("mdmkit-bell", triangle.replace('"triangle"', '"bell"'))
    said = json.loads(doctor(monkeypatch, "mdmkit-one,mdmkit-two,mdmkit-bell").out)["problems"]
    assert [p["what"].split(" 1.0")[0] for p in said] == [
        'two components provide the time sampler "bell": mdmkit 0.1.0 (mdmkit.builtin.'
        "time_samplers) and mdmkit-bell",
        'two components provide the time sampler "triangle": mdmkit-one',
    ]
    assert all("or choose with MDMKIT_PLUGINS=" in p["remedy"] for p in said)


def test_a_plugin_that_is_installed_twice_is_said(
    distribution: Install, triangle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [distribution("mdmkit-triangle", triangle, version=v) for v in ("1.0", "2.0")]
    problem = only_problem(doctor(monkeypatch, "mdmkit-triangle"))
    assert problem["what"].startswith("is installed 2 times: ")
    assert all(str(place) in problem["what"] for place in places)


def test_commands_are_looked_at_too(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    root = distribution("mdmkit-greet", "def greet(): pass")
    (entries,) = root.glob("*.dist-info/entry_points.txt")
    lines = [f"{name} = {root.name}:{of}" for name, of in (("run", "greet"), ("hi", "no_such"))]
    entries.write_text("\n".join(["[mdmkit.commands]", *lines, ""]))
    problems = json.loads(doctor(monkeypatch, "mdmkit-greet").out)["problems"]
    assert 'the command "hi" of mdmkit-greet 1.0 cannot be used' in problems[0]["what"]
    assert 'its command "run" is never reached' in problems[1]["what"]
    said = json.loads(typed("plugins", "doctor", "--json").out)["plugins"]
    states = {row["entry"]: row["state"] for row in said if row["distribution"] == "mdmkit-greet"}
    assert states == {"run": "unreachable", "hi": "broken"}


def test_of_two_commands_of_one_name_neither_is_loaded(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mdmkit-one", "mdmkit-two"):
        root = distribution(name, "MDMKIT_API = 1\ndef greet(): pass")
        (entries,) = root.glob("*.dist-info/entry_points.txt")
        entries.write_text(f"[mdmkit.commands]\nhi = {root.name}:greet\n")
    said = json.loads(doctor(monkeypatch, "mdmkit-one,mdmkit-two").out)
    rows = [row for row in said["plugins"] if row["entry"] == "hi"]
    assert [(row["state"], row["api"]) for row in rows] == [("unreachable", 1)] * 2
    assert all('a command "hi", too' in problem["what"] for problem in said["problems"])


def test_a_distribution_that_lacks_its_own_module_is_to_be_reinstalled(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = distribution("mdmkit-hollow", "")
    (root / f"{root.name}.py").unlink()
    problem = only_problem(doctor(monkeypatch, "mdmkit-hollow"))
    assert problem["remedy"].endswith("pip install --force-reinstall mdmkit-hollow")


def test_a_torn_file_is_named(distribution: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    (entries,) = distribution("stranger", "").glob("*.dist-info/entry_points.txt")
    entries.write_text("[console_scripts]\nfoo\n")
    problem = only_problem(doctor(monkeypatch, "none"))
    assert problem["where"] == "stranger"
    assert problem["what"].startswith("its entry_points.txt cannot be read (")


def test_what_is_left_out_is_not_executed(
    distribution: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"package_{uuid4().hex}"
    root = distribution("mdmkit-inside", "")
    (root / name).mkdir()
    (root / name / "__init__.py").write_text("raise SystemExit('executed')")
    (root / name / "part.py").write_text("MDMKIT_API = 1")
    (entries,) = root.glob("*.dist-info/entry_points.txt")
    entries.write_text(f"[mdmkit]\ninside = {name}.part\n")
    imported = set(sys.modules)
    said = json.loads(doctor(monkeypatch, "none", code=0).out)["plugins"]
    assert [row["api"] for row in said if row["entry"] == "inside"] == [1]
    (root / name / "__init__.py").write_text("")
    doctor(monkeypatch, "none", code=0)
    assert name not in set(sys.modules) - imported
