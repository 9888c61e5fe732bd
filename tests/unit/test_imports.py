from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mdmkit

PACKAGE = Path(mdmkit.__file__).parent
REPOSITORY = PACKAGE.parent

# A room imports from its own floor and the floors below it.
FLOORS = (
    {
        "values",
        "errors",
        "files",
        "plain_files",
        "options",
        "suggest",
        "problems",
        "scalars",
        "protocols",
        "shipped",
        "hub",
    },
    {
        "annotations",
        "hookspecs",
        "choosing",
        "diffusion",
        "visibility",
        "draws",
        "head",
        "learning_rate",
    },
    {"step_files", "metrics_log", "validation_log", "samples_log", "environment", "runs"},
    {"contracts", "scoring"},
    {"installed", "plugins", "plugin_health", "choices", "option_words"},
    {"structuring"},
    {
        "data",
        "recipe",
        "recipe_files",
        "recipe_check",
        "recipe_schema",
        "suites",
        "suite_grids",
        "suite_requests",
        "suite_sources",
    },
    {"generation", "network", "scaffold", "testing"},
    {"costs", "training", "evaluation", "comparison", "report", "benchmarking"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# What a component may use; nothing that knows of recipes, plugins or runs.
FOR_COMPONENTS = {
    "protocols", "values", "options", "errors", "hookspecs", "diffusion", "data", "draws", "files",
    "head",
    "choosing",
    "visibility",
    "hub",
    "scoring",
    "metrics_log",
    "validation_log",
}  # fmt: skip
# Components are found by their hooks alone, but for these.
KNOWS_BUILTINS = {
    "evaluation/evaluate.py",  # validation is the NELBO, whatever a recipe says
    "testing/facts.py",  # the contract checks need surroundings for the component under test
    "testing/samplers.py",
    "testing/evaluation.py",
}
PUBLIC = {
    "", "protocols", "values", "options", "errors", "hookspecs", "diffusion", "head", "choosing",
    "scoring", "testing", "visibility", "hub", "files", "suggest",
}  # fmt: skip


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if ".venv" not in path.parts)


def run_time_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or in a function, but for typing alone."""
    for node in _outside_type_checking(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from mdmkit import plugins` imports a module, `from mdmkit import option` a name.
            for name in node.names:
                below = REPOSITORY.joinpath(*(node.module or "").split("."), name.name)
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                yield f"{node.module}.{name.name}" if is_module else str(node.module)


def _outside_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _outside_type_checking(child)


def room(module: str) -> str | None:
    """The room of a module of ours (the package itself is ""), None for strangers."""
    parts = module.split(".")
    if parts[0] != "mdmkit":
        return None
    return parts[1] if len(parts) > 1 else ""


def own_rooms(path: Path) -> set[str]:
    return {found for name in run_time_imports(path) if (found := room(name)) is not None}


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_knows_only_its_own_floor_and_those_below(path: Path):
    name = path.relative_to(PACKAGE).with_suffix("").parts[0]
    used = own_rooms(path) - {"", name}
    if name == "builtin":
        assert used <= FOR_COMPONENTS
    elif name not in ("__init__", "__main__"):
        assert "builtin" not in used or str(path.relative_to(PACKAGE)) in KNOWS_BUILTINS
        used -= {"builtin"}
        assert {room for room in used if FLOOR[room] > FLOOR[name]} == set()


def test_the_mathematics_needs_torch_alone():
    strangers = {name.split(".")[0] for name in run_time_imports(PACKAGE / "diffusion.py")}
    assert strangers - set(sys.stdlib_module_names) - {"__future__"} == {"torch"}


PLUGIN_MODULES = [
    *(path for path in modules(REPOSITORY / "plugins") if "tests" not in path.parts),
    *modules(PACKAGE / "scaffold" / "templates"),  # what new plugins start from
]


@pytest.mark.parametrize("path", PLUGIN_MODULES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_a_plugin_uses_public_names_only(path: Path):
    assert own_rooms(path) <= PUBLIC


def test_the_walk_sees_what_it_should(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport torch.nn\n"
        "from mdmkit import plugins, option\n"
        "if TYPE_CHECKING:\n    from mdmkit.recipe import Recipe\n"
        "def f():\n    from mdmkit.data.blocks import x\n"
    )
    assert list(run_time_imports(path)) == [
        "typing", "torch.nn", "mdmkit.plugins", "mdmkit", "mdmkit.data.blocks",
    ]  # fmt: skip
    assert own_rooms(path) == {"plugins", "", "data"}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], ["torch", "datasets", "torchmetrics", "cattrs", "pytest"]),
        (["--version"], ["torch", "datasets", "torchmetrics", "cattrs"]),
        (["check", "quickstart_bell", "lm1b_bell"], ["datasets", "torchmetrics"]),
        (["show", "quickstart_bell"], ["datasets", "torchmetrics"]),
        (["plugins"], ["datasets", "torchmetrics", "pytest"]),
        (["plugins", "--help"], ["torch", "datasets", "torchmetrics", "numpy", "cattrs"]),
        (["plugins", "new", "--help"], ["torch", "datasets", "torchmetrics", "numpy", "cattrs"]),
        (["schema"], ["datasets", "torchmetrics", "jsonschema", "tensorboard", "pytest"]),
        (["recipes"], ["torch", "datasets", "torchmetrics"]),
        (["report", "--help"], ["torch", "datasets", "torchmetrics", "numpy", "cattrs", "plotly"]),
        (["data", "--help"], ["torch", "datasets", "torchmetrics", "numpy", "cattrs"]),
        (["data", "prepare", "--help"], ["torch", "datasets", "torchmetrics", "numpy", "cattrs"]),
        (["data", "list"], ["torch", "datasets", "torchmetrics", "tokenizers"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_command_does_not_load(arguments: list[str], forbidden: list[str]):
    code = (
        "import sys\nfrom mdmkit.cli import main\n"
        f"status = main({arguments!r})\n"
        f"loaded = [name for name in {forbidden!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else status)\n"
    )
    environ = {**os.environ, "MDMKIT_PLUGINS": "none"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "mdmkit", "check", "no_such_recipe"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith('no shipped recipe "no_such_recipe"')
