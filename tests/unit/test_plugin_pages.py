"""docs/plugins/: a page a hook, whose contract, signatures, example and check are the code's.

After a change of any of them ``python tests/unit/test_plugin_pages.py`` writes the pages anew.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import mdmkit
from mdmkit import hookspecs, protocols, values
from mdmkit.contracts import HOOKS
from mdmkit.installed import Source, builtin_sources
from mdmkit.plugins import build_catalogue
from mdmkit.recipe import load_recipe
from mdmkit.scaffold.names import KINDS, Names
from mdmkit.scaffold.plugin import recipe_text, template
from mdmkit.testing import CHECKS, check_all

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "plugins"
OVERVIEW = ROOT / "docs" / "plugins.md"

SHOWN: dict[str, tuple[str, ...]] = {
    "denoiser": ("DenoiserOptions", "Denoiser", "CachingDenoiser", "Attention", "Vocabulary"),
    "noise_schedule": ("NoiseSchedule",),
    "time_sampler": ("TimeSampler", "Density"),
    "mask_pattern": ("MaskPattern", "CountLaw"),
    "loss_weighting": ("LossWeighting", "Normalizer"),
    "objective": (
        *("ObjectiveOptions", "Objective", "ObjectiveContext", "Prediction", "Draws"),
        *("Stratification", "Batch", "Noised", "Loss", "Bound"),
    ),
    "sampler": ("Sampler", "SamplerContext", "NetworkLogits", "Prediction", "Generation"),
    "evaluator": (
        *("Evaluator", "Evaluation", "EvaluationContext", "NetworkCall", "GradientCall"),
        *("GenerateCall", "BlockSource", "Measurement", "Subject", "Picture", "Line", "HeatMap"),
    ),
    "corpus": ("Corpus", "Split"),
    "tracker": ("Tracker", "Tracking", "RunInfo", "Metrics"),
}
"""What of `mdmkit.protocols` and `mdmkit.values` a page shows."""

OF_ALL = ("RunFacts", "Checked")
"""What the overview shows, for it is the same for all."""


def page(kind: str) -> str:
    return (PAGES / f"{kind}.md").read_text(encoding="utf-8")


def part(text: str, name: str) -> str:
    """What stands between two markers."""
    assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1, name
    return text.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0]


def python_of(text: str) -> str:
    """The code in it."""
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    return str(code)


# --- what is generated


def generated(kind: str) -> dict[str, str]:
    """The parts of a page that come from the code."""
    return {
        "contract": contract(KINDS[kind]),
        "signatures": fenced("\n\n\n".join(declaration(name) for name in SHOWN[kind])),
        "example": fenced(template(kind).strip()),
        "recipe": fenced(recipe_text(example_names(kind)), "toml"),
        "check": check(KINDS[kind]),
    }


def example_names(kind: str) -> Names:
    return Names(distribution="mdmkit-example", kind=kind, component="example")


def contract(hook: str) -> str:
    """The words of a hook's specification."""
    text = (inspect.getdoc(getattr(hookspecs, hook)) or "").partition("Example::")[0].strip()
    return text.replace("``", "`").replace("\nInvariants: ", "\n**Invariants:** ")


def check(hook: str) -> str:
    """How the hook's check is called, and with what."""
    function = CHECKS[hook]
    given = [
        str(p.replace(annotation=p.empty)) for p in inspect.signature(function).parameters.values()
    ]
    names = list(inspect.signature(function).parameters.values())
    first_named = next((i for i, p in enumerate(names) if p.kind is p.KEYWORD_ONLY), None)
    if first_named is not None:
        given.insert(first_named, "*")
    about = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    arguments = re.sub(r"\n +(?=\S)(?![\w, ]+: )", " ", textwrap.dedent(about)).splitlines()
    rows = [f"- `{name}`: {words}" for name, words in (line.split(": ", 1) for line in arguments)]
    call = fenced(f"{function.__name__}({', '.join(given)})")
    return "\n".join([call, "", *(row.replace("``", "`") for row in rows)])


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


def declaration(name: str) -> str:
    """A class without the bodies of its methods, or what an alias stands for."""
    home = protocols if hasattr(protocols, name) else values
    found = getattr(home, name)
    if not isinstance(found, type):
        return alias(name, home)
    lines = textwrap.dedent(inspect.getsource(found)).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    kept = set(range(len(lines)))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            kept -= set(range(node.body[0].end_lineno or 0, node.end_lineno or 0))
            if node.name.startswith("_") and node.name not in ("__call__", "__len__"):
                kept -= set(range(node.lineno - 1, node.end_lineno or 0))
    return re.sub(r"\n\n\n+", "\n\n", "\n".join(lines[i] for i in sorted(kept))).rstrip()


def alias(name: str, home: ModuleType) -> str:
    """The line that defines a name such as ``Prediction``."""
    modules = [m for n, m in sys.modules.items() if n.startswith(f"{home.__name__}.")]
    for module in modules:
        if match := re.search(rf"^{name} = .*$", inspect.getsource(module), re.M):
            return match[0]
    raise LookupError(name)


def rewritten(text: str, parts: dict[str, str]) -> str:
    for name, body in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = f"{before}{begin}\n{body}\n{end}{after}"
    return text


def overview_parts() -> dict[str, str]:
    return {"facts": fenced("\n\n\n".join(declaration(name) for name in OF_ALL))}


AGAIN = "write it anew: python tests/unit/test_plugin_pages.py"


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_what_the_code_says(kind: str) -> None:
    for name, body in generated(kind).items():
        assert part(page(kind), name).strip() == body, AGAIN


def test_the_overview_shows_what_all_have() -> None:
    text = OVERVIEW.read_text(encoding="utf-8")
    for name, body in overview_parts().items():
        assert part(text, name).strip() == body, AGAIN


# --- every hook, every signature


def test_there_is_a_page_for_each_hook_and_for_no_other() -> None:
    there = {path.stem for path in PAGES.glob("*.md")}
    assert there == {*KINDS, "publishing", "commands"}
    linked = re.findall(r"\(plugins/(\w+)\.md\)", OVERVIEW.read_text(encoding="utf-8"))
    assert set(linked) == there
    assert set(SHOWN) == set(KINDS) == {point.kind.replace(" ", "_") for point in HOOKS.values()}


def signatures(kind: str) -> dict[str, str]:
    """Methods as ``Class.method`` and their arguments, as they stand on the page."""
    tree = ast.parse(python_of(part(page(kind), "signatures")))
    return {
        f"{cls.name}.{method.name}": f"({ast.unparse(method.args)}) -> {ast.unparse(returned)}"
        for cls in tree.body
        if isinstance(cls, ast.ClassDef)
        for method in cls.body
        if isinstance(method, ast.FunctionDef) and (returned := method.returns)
    }


def exact(cls: type) -> dict[str, str]:
    """The same of the class itself, without looking at its text."""
    found = {}
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and (name[0] != "_" or name in ("__call__", "__len__")):
            plain = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(function)))
            parsed = ast.parse(f"def f{plain.replace('=Ellipsis', '=...')}: ...").body[0]
            assert isinstance(parsed, ast.FunctionDef)
            assert parsed.returns is not None
            arguments = f"({ast.unparse(parsed.args)}) -> {ast.unparse(parsed.returns)}"
            found[f"{cls.__name__}.{name}"] = arguments
    return found


def owned(cls: type) -> set[str]:
    """Its members, but for what attrs and the language add."""
    members = {*vars(cls), *cls.__annotations__}
    return {name for name in members if name[0] != "_" or name in ("__call__", "__len__")}


@pytest.mark.parametrize("kind", KINDS)
def test_every_protocol_of_a_hook_is_shown_with_its_exact_signatures(kind: str) -> None:
    protocol = HOOKS[KINDS[kind]].protocol
    assert SHOWN[kind][0] == protocol.__name__
    shown = signatures(kind)
    for cls in [protocol, *live_protocols(protocol)]:
        assert cls.__name__ in SHOWN[kind]
        methods = {name for name in shown if name.startswith(f"{cls.__name__}.")}
        assert methods == set(exact(cls))
        assert all(shown[name] == arguments for name, arguments in exact(cls).items())
        code = part(page(kind), "signatures").partition(f"class {cls.__name__}")[2]
        for member in owned(cls):
            assert re.search(rf"^    (def )?{member}\b", code, re.M), member


def live_protocols(protocol: type) -> Iterator[type]:
    """What its methods take and return, out of our protocols."""
    for method in filter(inspect.isfunction, vars(protocol).values()):
        for annotation in method.__annotations__.values():
            found = getattr(protocols, annotation, None)
            if isinstance(found, type):
                yield found


# --- the examples


def lines_of_code(code: str) -> set[int]:
    """The lines that hold code: no blank ones, comments, docstrings or imports."""
    tree = ast.parse(code)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    numbered = enumerate(code.splitlines(), 1)
    written = {number for number, line in numbered if line.strip(" ").strip("#")}
    return written - skipped


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_complete_and_keeps_its_contract(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = python_of(part(page(kind), "example"))
    assert len(lines_of_code(code)) >= 10
    classes = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    inside = {n for cls in classes for n in range(cls.lineno + 1, (cls.end_lineno or 0) + 1)}
    assert len(lines_of_code(code) & inside) <= 30
    module = ModuleType(f"example_of_{kind}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, kind, "exec", dont_inherit=True), vars(module))
    assert vars(module)["MDMKIT_API"] == mdmkit.API_VERSION
    check_all(module)

    source = Source(distribution="mdmkit-example", version="1", entry="x", load=lambda: module)
    catalogue = build_catalogue([*builtin_sources(), source])
    assert catalogue.broken == ()
    (component,) = (c for c in catalogue.components if c.distribution == "mdmkit-example")
    assert (component.hook, component.name) == (KINDS[kind], "example")
    recipe = part(page(kind), "recipe").replace("```toml", "").replace("```", "")
    used = load_recipe_text(recipe, catalogue)
    assert isinstance(used, vars(module)["Example"])


def load_recipe_text(text: str, catalogue: Any) -> Any:
    """The component that the last table of a recipe chooses."""
    *_, last = re.findall(r"^\[(.+)\]$", text, re.M)
    table = tomllib.loads(text)
    overrides = [f"run.name={table['run']['name']}"]
    found: Any = load_recipe(
        table["extends"], [*overrides, f"{last}.use=example"], catalogue=catalogue
    )
    for name in last.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_page_says_of_optional_members_is_in_the_code(kind: str) -> None:
    rows = re.findall(r"^\| `(\w+)", page(kind).partition("## What it may have")[2], re.M)
    assert rows or "## What it may have" not in page(kind)
    package = Path(mdmkit.__file__).parent
    texts = [
        path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if "scaffold" not in path.parts
    ]
    for name in rows:
        asked = re.compile(rf'"{name}"|\.{name}\b')  # getattr(x, "name"), hasattr, x.name(…)
        assert any(asked.search(text) for text in texts), name


def test_optional_members_that_a_protocol_names_are_in_the_table() -> None:
    for kind in KINDS:
        doc = inspect.getdoc(HOOKS[KINDS[kind]].protocol) or ""
        for sentence in re.findall(r"(?:[Mm]ay (?:also )?have|And|with an option) ``(\w+)", doc):
            assert re.search(rf"^\| `{sentence}\b", page(kind), re.M), (kind, sentence)


# --- the page on commands


def test_the_command_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PAGES / "commands.md").read_text(encoding="utf-8")
    module = ModuleType("mdmkit_tokens")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(python_of(text), "commands.md", "exec", dont_inherit=True), vars(module))
    (pyproject,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    ((name, place),) = tomllib.loads(pyproject)["project"]["entry-points"][
        "mdmkit.commands"
    ].items()
    assert place == f"mdmkit_tokens:{name}"
    app = typer.Typer(add_completion=False)
    app.command()(vars(module)[name])
    (command, said) = re.findall(r"```console\n\$ mdmkit \w+ (.*?)\n(.*?)\n```", text, re.S)[0]
    done = CliRunner().invoke(app, command.split())
    assert (done.exit_code, done.output.strip()) == (0, said)


if __name__ == "__main__":
    for kind in KINDS:
        (PAGES / f"{kind}.md").write_text(rewritten(page(kind), generated(kind)), encoding="utf-8")
    text = OVERVIEW.read_text(encoding="utf-8")
    OVERVIEW.write_text(rewritten(text, overview_parts()), encoding="utf-8")
