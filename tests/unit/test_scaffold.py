"""What ``mdmkit plugins new`` makes; installed for real in tests/cli/test_plugins_new.py."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mdmkit
from mdmkit.contracts import NAME
from mdmkit.errors import DataError, PluginError
from mdmkit.installed import normalized
from mdmkit.plugins import load_catalogue
from mdmkit.scaffold import plugin as scaffold
from mdmkit.scaffold.names import KINDS, Names, chosen_names, refuse_twin
from mdmkit.scaffold.plugin import placeholders, plugin_files, template, write_folder
from mdmkit.testing import evaluation_context

ROOT = Path(__file__).resolve().parents[2]


def names_of(kind: str, component: str | None = None) -> Names:
    return chosen_names(f"mdmkit-new-{kind.replace('_', '-')}", kind, component)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Names], Path]]:
    """Writes a plugin and puts it where Python finds it, with its entry points."""
    before = set(sys.modules)
    yield lambda names: installed(names, tmp_path / "installed", monkeypatch)
    for module in set(sys.modules) - before:
        if module.startswith("mdmkit_new_"):
            del sys.modules[module]


def installed(names: Names, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / names.distribution
    write_folder(folder, plugin_files(names))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "src" / f"{names.module}-{project['version']}.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(about)
    entries = project["entry-points"]["mdmkit"].items()
    lines = [f"{entry} = {module}\n" for entry, module in entries]
    (info / "entry_points.txt").write_text("".join(["[mdmkit]\n", *lines]))
    monkeypatch.syspath_prepend(folder / "src")
    monkeypatch.setenv("MDMKIT_PLUGINS", names.distribution)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_tests_of_a_new_plugin_pass(
    kind: str, tmp_path: Path, install: Callable[[Names], Path]
) -> None:
    names = names_of(kind, "of_mine")
    folder = install(names)
    (path,) = (folder / "tests").glob("*.py")
    tests = ModuleType("tests_of_a_new_plugin")
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), vars(tests))
    tests.test_it_keeps_its_contract()
    tests.test_mdmkit_finds_it()
    tests.test_a_recipe_can_use_it(tmp_path)
    (component,) = (c for c in load_catalogue().components if c.distribution != "mdmkit")
    assert (component.hook, component.name) == (KINDS[kind], "of_mine")
    assert component.cls.__name__ == "OfMine"
    module = import_module(names.module)
    assert mdmkit.API_VERSION == module.MDMKIT_API
    readme = (folder / "README.md").read_text()
    (recipe,) = re.findall(r"```toml\n(.*?)\n```", readme, re.S)
    assert recipe in path.read_text()


def test_a_new_plugin_is_linted_and_formatted_whatever_its_name(tmp_path: Path) -> None:
    for number, component in enumerate(
        ("q", "twenty_letters_long_x", "a_name.of-many_words_and.more", "w" * 40, "2" * 40)
    ):
        for kind in KINDS:
            names = names_of(kind, component)
            write_folder(tmp_path / str(number) / kind, plugin_files(names))
    for arguments in (("check",), ("format", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--quiet", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_left_of_templates_and_placeholders() -> None:
    for kind in KINDS:
        for path, text in plugin_files(names_of(kind, "of_mine")).items():
            assert not re.search(r"@\w+@|\{module\}", path + text)
            assert not re.search(r"example(?!s\()", text, re.IGNORECASE), path


def test_the_project_asks_for_what_ours_asks_for() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    new = tomllib.loads(plugin_files(names_of("sampler"))["pyproject.toml"])
    assert new["build-system"] == ours["build-system"]
    assert new["project"]["requires-python"] == ours["project"]["requires-python"]
    assert new["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "src/mdmkit_new_sampler"
    ]
    dev = set(new["project"]["optional-dependencies"]["dev"])
    assert dev <= set(ours["project"]["optional-dependencies"]["dev"])
    pythons = re.findall(r"Python :: (3\.\d+)", str(ours["project"]["classifiers"]))
    assert (
        re.findall(r"3\.\d+", plugin_files(names_of("sampler"))[".github/workflows/test.yml"])
        == pythons
    )


# --- names


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("mdmkit-foo", ("mdmkit_foo", "foo", "foo")),
        (
            "mdmkit-of-two-words",
            ("mdmkit_of_two_words", "of-two-words", "of_two_words"),
        ),
        ("MDMkit.Foo_Bar", ("mdmkit_foo_bar", "foo-bar", "foo_bar")),
        ("lopsided", ("lopsided", "lopsided", "lopsided")),
    ],
)
def test_names_follow_from_that_of_the_distribution(
    distribution: str, expected: tuple[str, str, str]
) -> None:
    names = chosen_names(distribution, "corpus")
    assert (names.module, names.entry, names.component) == expected
    assert names.distribution == distribution
    assert normalized(distribution) == normalized(names.module)


@pytest.mark.parametrize("kind", ["time_sampler", "mdmkit_time_samplers"])
def test_a_hook_is_known_by_its_kind_and_by_its_name(kind: str) -> None:
    names = chosen_names("mdmkit-foo", kind)
    assert (names.kind, names.hook, names.words) == (
        "time_sampler", "mdmkit_time_samplers", "time sampler",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("foo", "Foo"),
        ("foo_bar-baz.q", "FooBarBazQ"),
        ("2d", "TimeSampler2d"),
        ("tensor", "TensorTimeSampler"),  # the module has a Tensor
        ("none", "NoneTimeSampler"),
        ("exception", "ExceptionTimeSampler"),
        ("example", "Example"),
        ("a_very_long_name_of_many_words", "AVeryLongNameOfMany"),
    ],
)
def test_a_class_has_a_name_of_its_own(component: str, name: str) -> None:
    names = names_of("time_sampler", component)
    assert NAME.fullmatch(component)
    assert placeholders(names)["class"] == name
    scope: dict[str, object] = {"__name__": "new"}
    sys.modules["new"] = ModuleType("new")
    try:
        exec(compile(scaffold.module_text(names), "new", "exec", dont_inherit=True), scope)
    finally:
        del sys.modules["new"]
    assert list(scope["mdmkit_time_samplers"]()) == [component]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("My plugin!", "corpus"), r'^"My plugin!" is no .*; did you mean "mdmkit-my-plugin"\?$'),
        (("mdmkit-foo-", "corpus"), r'did you mean "mdmkit-foo"\?$'),
        (("fóo", "corpus"), r'did you mean "mdmkit-f-o"\?$'),
        (("!", "corpus"), r"digit at both ends$"),
        (("", "corpus"), r"digit at both ends$"),
        (("../x", "corpus"), r'did you mean "mdmkit-x"\?$'),
        (("2d", "corpus"), r'no module can be called "2d"; did you mean "mdmkit-2d"\?$'),
        (("class", "corpus"), r'no module can be called "class"; did you mean "mdmkit-class"\?$'),
        (("src", "corpus"), r'no module can be called "src"; did you mean "mdmkit-src"\?$'),
        (("tests", "corpus"), r'no module can be called "tests"'),
        (("mdmkit-" + "x" * 34, "corpus"), r"has 41 characters, expected at most 40: choose a sho"),
        (("mdmkit-foo", "corpus", "x" * 41), r'^--component: "x+" has 41 characters, expected at'),
        (("torch", "corpus"), r'there is a module "torch" already, .*; the plugin needs'),
        (("mdmkit", "corpus"), r'there is a module "mdmkit" already'),
        (("mdmkit-foo", "time_smpler"), r'^--hook: .* did you mean "time_sampler"\?'),
        (("mdmkit-foo", "mdmkit_evaluator"), r'did you mean "evaluator"\?'),
        (("mdmkit-foo", "x"), r'^--hook: no hook "x"; known: denoiser, .*, tracker$'),
        (("mdmkit-foo", "corpus", "a b"), r'^--component: "a b" is no .*; did you mean "a_b"\?$'),
        (("mdmkit-foo", "corpus", "../x"), r'did you mean "x"\?$'),
        (("mdmkit-foo", "corpus", ""), r"digit first$"),
    ],
)  # fmt: skip
def test_bad_names_are_refused_in_words(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        chosen_names(*arguments)


def test_the_name_of_an_installed_component_is_refused() -> None:
    catalogue = load_catalogue({"MDMKIT_PLUGINS": "none"})
    with pytest.raises(PluginError, match='there is a time sampler "bell" already, of mdmkit '):
        refuse_twin(names_of("time_sampler", "bell"), catalogue)
    refuse_twin(names_of("noise_schedule", "bell"), catalogue)


# --- the folder


FILES = {"a.txt": "a", "b/c/d.txt": "d"}


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for folder in (tmp_path / "new", tmp_path / "deep" / "er", tmp_path / "link"):
        write_folder(folder, FILES)
        there = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.txt")}
        assert there == FILES
    assert (tmp_path / "empty" / "a.txt").exists()
    assert not list(tmp_path.rglob(".tmp-*"))


def _working_directory(folder: Path) -> Path:
    return Path()


def _taken(folder: Path) -> Path:
    (folder / "taken").mkdir()
    (folder / "taken" / "mine.txt").write_text("mine")
    return folder / "taken"


def _file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file"


def _below_a_file(folder: Path) -> Path:
    return _file(folder) / "below"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_working_directory, r"^\.: is the working directory; choose another"),
        (_taken, r"taken: is there already and not empty; choose another folder with --directory$"),
        (_file, r"file: is a file; choose another"),
        (_below_a_file, r"below: cannot be written \(.*\)$"),
    ],
)
def test_what_is_there_stays(
    make: Callable[[Path], Path], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make(tmp_path)
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    with pytest.raises(PluginError, match=message):
        write_folder(folder, FILES)
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(path: Path, text: str) -> None:
        if written:
            raise OSError(28, "No space left on device")
        path.write_text(text)
        written.append(path)

    monkeypatch.setattr(scaffold, "write_atomic", full)
    with pytest.raises(PluginError, match=r"new: cannot be written \(No space left on device\)"):
        write_folder(tmp_path / "new", FILES)
    assert written
    assert list(tmp_path.iterdir()) == []


def test_every_hook_has_a_template_and_no_other() -> None:
    there = {path.stem for path in scaffold.TEMPLATES.glob("*.py")} - {"__init__"}
    assert there == set(KINDS)
    assert all(template(kind) for kind in KINDS)


def test_the_number_of_the_example_evaluator_is_a_ratio_of_sums_with_its_error() -> None:
    """A block in which nothing is masked counts for nothing, and one block has no error."""
    live = (
        import_module("mdmkit.scaffold.templates.evaluator").Example().build(evaluation_context())
    )
    live.found.append(torch.tensor([[0.0, 0.0]], dtype=torch.float64))
    with pytest.raises(DataError, match="expected at least 2 blocks in the split, found 1"):
        live.compute()
    live.found.append(torch.tensor([[2.0, 1.0], [9.0, 3.0]], dtype=torch.float64))
    number = live.compute()["nll"]
    assert number.value == pytest.approx(11 / 4)
    # residuals 0, 2 − 11/4 and 9 − 33/4, of which each is 3/4: √(3/2 · 9/8) / 4
    assert number.stderr == pytest.approx(math.sqrt(3 / 2 * 9 / 8) / 4)
