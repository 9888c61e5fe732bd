from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import mdmkit
from mdmkit.builtin.time_samplers import mdmkit_time_samplers
from mdmkit.cli import main
from mdmkit.recipe import load_recipe, recipe_names, recipe_path
from mdmkit.shipped import SUITES


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err  # no terminal, no colours
    assert "Traceback" not in out + err
    return code, out, err


def test_check_says_ok_for_each(capsys):
    code, out, err = run(capsys, "check", *recipe_names())
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{name}: ok" for name in recipe_names()]


def test_check_prints_all_errors_of_all_files(capsys):
    Path("a.toml").write_text('extends = "quickstart_bell"\n[train]\nstepz = 1\nsteps = "2"\n')
    Path("b.toml").write_text("[run\n")
    code, out, err = run(capsys, "check", "a.toml", "quickstart_bell", "b.toml", "c.toml")
    assert (code, out) == (2, "quickstart_bell: ok\n")
    assert [line.split(": ", 1)[0] for line in err.splitlines()] == ["a.toml"] * 2 + [
        "b.toml", "c.toml",
    ]  # fmt: skip


def test_check_takes_overrides_and_says_their_errors_once(capsys):
    arguments = ("quickstart_bell", "quickstart_uniform", "--set", "train.steps=no")
    code, out, err = run(capsys, "check", *arguments)
    assert (code, out) == (2, "")
    assert err == '--set: [train] steps: expected an integer, got the string "no"\n'
    assert run(capsys, "check", "quickstart_bell", "--set", "train.steps=200")[0] == 0


def test_the_output_of_show_is_a_recipe_that_is_the_same(capsys):
    code, out, _ = run(capsys, "show", "quickstart_bell", "--set", "run.seed=5")
    assert code == 0
    Path("shown.toml").write_text(out)
    assert load_recipe("shown.toml") == load_recipe("quickstart_bell", ["run.seed=5"])
    assert tomllib.loads(out)["optimizer"]["eps"] == 1e-8
    assert "# density" in out
    assert "█" in out


def test_show_says_where_there_are_no_curves(capsys):
    _, out, _ = run(capsys, "show", "quickstart_ar")
    assert "# No curves of mask ratio and weight: the objective trains" in out
    assert tomllib.loads(out)["run"]["name"] == "quickstart_ar"


def test_show_as_json(capsys):
    _, out, _ = run(capsys, "show", "quickstart_uniform", "--json")
    shown = json.loads(out)
    assert shown["recipe"]["loss_weighting"]["use"] == "elbo"
    (curves,) = shown["curves"]
    assert curves["weight"] == pytest.approx([1.0] * len(curves["mask_ratio"]))
    _, out, _ = run(capsys, "show", "quickstart_ar", "--json")
    assert json.loads(out)["curves"] == []
    assert "next_token" in json.loads(out)["no_curves"]


def test_show_against_another_recipe(capsys):
    arguments = ("show", "quickstart_uniform", "--set", "time_sampler.eps=0.1")
    code, out, err = run(capsys, *arguments, "--against", "quickstart_uniform")
    assert (code, err) == (0, "")
    name = "quickstart_uniform --set time_sampler.eps=0.1"
    assert out.startswith(f"From {name} to quickstart_uniform:\n  time_sampler.eps: 0.1 -> 0.0\n")
    assert out.count("at step 0:") == 3
    assert out.splitlines()[-1].startswith("The recipes train on different losses")
    _, out, _ = run(capsys, *arguments, "--against", "quickstart_uniform", "--json")
    shown = json.loads(out)
    assert [entry["name"] for entry in shown["recipes"]] == [name, "quickstart_uniform"]
    assert shown["comparison"]["weight_equal"] is False
    _, out, _ = run(capsys, "show", "quickstart_uniform", "--against", "quickstart_uniform")
    assert "Both curves agree: the recipes are equal in expectation." in out
    assert "no difference" in out


def test_show_against_a_recipe_without_curves(capsys):
    code, out, _ = run(capsys, "show", "quickstart_bell", "--against", "quickstart_ar")
    assert code == 0
    assert "none: the objective trains" in out
    assert out.endswith("This cannot be said: not both have curves.\n")
    _, out, _ = run(capsys, "show", "quickstart_bell", "--against", "quickstart_ar", "--json")
    assert json.loads(out)["comparison"] is None


def test_plugins_lists_owners_and_names(capsys):
    code, out, _ = run(capsys, "plugins")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "mdmkit_time_samplers" in line]
    assert line.split() == [
        "mdmkit",
        mdmkit.__version__,
        "mdmkit_time_samplers",
        *", ".join(mdmkit_time_samplers()).split(),
    ]


def test_plugins_shows_strangers_and_the_broken_ones(capsys, monkeypatch, distribution, triangle):
    monkeypatch.delenv("MDMKIT_PLUGINS")
    distribution("mdmkit-triangle", triangle, version="0.3")
    distribution("mdmkit-broken", "1 / 0", entry="bad")
    code, out, _ = run(capsys, "plugins")
    assert code == 0
    assert re.search(r"mdmkit-triangle +0\.3 +mdmkit_time_samplers +triangle\n", out)
    assert (
        "broken: mdmkit-broken 1.0 (bad) could not be loaded: ZeroDivisionError: division by zero"
    ) in out
    _, out, _ = run_json(capsys, "plugins", "--json")
    (broken,) = json.loads(out)["broken"]
    assert "1 / 0" in broken["traceback"]
    mine = [c for c in json.loads(out)["components"] if c["distribution"] == "mdmkit-triangle"]
    assert mine == [
        {
            "distribution": "mdmkit-triangle",
            "version": "0.3",
            "hook": "mdmkit_time_samplers",
            "names": ["triangle"],
        }
    ]


def run_json(capsys, *arguments: str) -> tuple[int, str, str]:
    """JSON may hold a traceback, which `run` refuses."""
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_a_plugin_of_a_stranger_is_used_and_a_broken_one_is_named(
    capsys, monkeypatch, distribution, triangle
):
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-triangle,mdmkit-broken")
    distribution("mdmkit-triangle", triangle)
    distribution("mdmkit-broken", "import nothing_there", entry="bad")
    Path("mine.toml").write_text(
        'extends = "quickstart_bell"\n[time_sampler]\nuse = "triangle"\nslope = 1.5\n'
    )
    assert run(capsys, "check", "mine.toml")[0] == 0
    code, _, err = run(capsys, "check", "mine.toml", "--set", "time_sampler.use=square")
    known = ", ".join(sorted([*mdmkit_time_samplers(), "triangle"]))
    assert code == 2
    assert err == (
        f'--set: [time_sampler] use: no time sampler "square"; known: {known}; a '
        "plugin that might provide it is broken: mdmkit-broken 1.0 (bad) could not be loaded: "
        "ModuleNotFoundError: No module named 'nothing_there'\n"
    )


def test_a_collision_of_plugins_is_one_line(capsys, monkeypatch, distribution, triangle):
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-one,mdmkit-two")
    distribution("mdmkit-one", triangle)
    distribution("mdmkit-two", triangle)
    code, out, err = run(capsys, "plugins")
    assert (code, out) == (2, "")
    assert "mdmkit-one 1.0" in err
    assert len(err.splitlines()) == 1


def test_recipes_are_listed_and_copied(capsys):
    code, out, _ = run(capsys, "recipes")
    assert code == 0
    names = [*recipe_names(), *SUITES.names()]
    assert [line.split()[0] for line in out.splitlines()] == ["name", *names]
    listed = json.loads(run(capsys, "recipes", "--json")[1])
    assert [entry["name"] for entry in listed] == names
    assert {entry["kind"] for entry in listed} == {"recipe", "suite"}
    assert all(entry["about"] for entry in listed)
    assert run(capsys, "recipes", "copy", "quickstart_bell") == (0, "quickstart_bell.toml\n", "")
    assert Path("quickstart_bell.toml").read_bytes() == recipe_path("quickstart_bell").read_bytes()
    assert run(capsys, "recipes", "copy", "zero_shot_mini") == (0, "zero_shot_mini.toml\n", "")
    assert Path("zero_shot_mini.toml").read_bytes() == SUITES.path("zero_shot_mini").read_bytes()
    code, out, err = run(capsys, "recipes", "copy", "quickstart_bell")
    assert (code, out) == (2, "")
    assert err == "quickstart_bell.toml: exists already; choose another with --to\n"
    assert run(capsys, "recipes", "copy", "quickstart_bell", "--to", "mine.toml")[0] == 0
    assert run(capsys, "check", "mine.toml")[0] == 0


def test_version_and_help(capsys):
    assert run(capsys, "--version") == (0, f"mdmkit {mdmkit.__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in ("check", "show", "plugins", "recipes"))


@pytest.mark.parametrize("arguments", [("nonsense",), ("check",), ("show", "--nope", "x")])
def test_wrong_arguments_are_a_usage_error(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Usage: mdmkit" in err


def test_ctrl_c_leaves_with_130(capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mdmkit.recipe.load_recipe", interrupted)
    assert run(capsys, "check", "quickstart_bell") == (130, "", "")


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    """Only what the user can mend is said without a traceback."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mdmkit.recipe.load_recipe", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["check", "quickstart_bell"])
