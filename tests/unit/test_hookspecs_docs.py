"""The hooks' docstrings are their contracts, so what they say is tried out; and so are the docs."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from attrs import frozen
from torch import nn

import mdmkit
from mdmkit import hookspecs, protocols, testing, values
from mdmkit.builtin.objectives import Autoregressive
from mdmkit.contracts import HOOKS, check_components
from mdmkit.installed import Source
from mdmkit.testing import CHECKS, check_component
from mdmkit.testing.errors import explain

DOCS = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
SPECIFICATIONS = {
    name: function
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
    if hasattr(function, f"{hookspecs.PROJECT}_spec")
}


def docstring(hook: str) -> str:
    return inspect.getdoc(SPECIFICATIONS[hook]) or ""


def example(hook: str) -> str:
    """The code of the docstring's last block."""
    return textwrap.dedent(docstring(hook).partition("Example::\n")[2])


# --- what the examples leave out


class BagOfWords(nn.Module):
    """Predicts from the mean of the visible words."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        self.head = nn.Linear(width, size)
        self.blocks = nn.ModuleList([self.head])

    def forward(self, tokens: torch.Tensor, *, t: Any = None, attention: Any = None) -> Any:
        h = self.embedding(tokens)
        return h + h.mean(1, keepdim=True)

    def unembed(self, h: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(h)
        return logits


@frozen
class LiveEntropy:
    """The number of the split's blocks, known exactly."""

    blocks: Any
    provenance: ClassVar[dict[str, Any]] = {"split": "validation"}

    def __len__(self) -> int:
        return 0

    def compute(self) -> dict[str, values.Measurement]:
        return {"blocks": values.Measurement(value=float(len(self.blocks)), stderr=0.0)}


def live_next_token(vocab: values.Vocabulary) -> Any:
    from attrs import evolve

    return Autoregressive().build(evolve(testing.objective_context(), vocab=vocab))


NAMES: dict[str, Any] = {
    **{name: getattr(protocols, name) for name in dir(protocols) if not name.startswith("_")},
    **{name: getattr(values, name) for name in dir(values) if not name.startswith("_")},
    "ClassVar": ClassVar,
    "torch": torch,
    "nn": nn,
    "frozen": frozen,
    "option": mdmkit.option,
    "hookimpl": mdmkit.hookimpl,
    "BagOfWords": BagOfWords,
    "LiveEntropy": LiveEntropy,
    "LiveNextToken": live_next_token,
}

SETTINGS: dict[str, dict[str, Any]] = {"mdmkit_corpora": {"splits": ("train", "validation")}}


def run(code: str) -> dict[str, Any]:
    scope = {**NAMES, "__name__": "example"}
    exec(compile(code, "example", "exec", dont_inherit=True), scope)
    return scope


# --- the specifications


def test_every_specification_is_known_and_checked() -> None:
    assert set(SPECIFICATIONS) == set(HOOKS) == set(CHECKS)


@pytest.mark.parametrize("hook", SPECIFICATIONS)
def test_a_specification_says_table_caller_invariants_and_example(hook: str) -> None:
    text = docstring(hook)
    assert re.search(r"for the tables? ``\[[a-z_.<>]+\]``", text.splitlines()[0])
    assert re.search(r"\b(calls|called)\b", text)
    assert "Invariants:" in text
    assert example(hook).strip()


@pytest.mark.parametrize("hook", SPECIFICATIONS)
def test_a_specification_takes_nothing_and_is_never_called(hook: str) -> None:
    assert not inspect.signature(SPECIFICATIONS[hook]).parameters
    with pytest.raises(AssertionError, match="never called"):
        SPECIFICATIONS[hook]()


@pytest.mark.parametrize("hook", SPECIFICATIONS)
def test_the_example_runs_and_keeps_the_contract(
    hook: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scope = run(example(hook))
    provided = scope[hook]()
    check_components(hook, provided)
    settings = dict(SETTINGS.get(hook, {}))
    if hook == "mdmkit_trackers":
        settings["directory"] = tmp_path
    for cls in provided.values():
        CHECKS[hook](cls(), **settings)
    if hook == "mdmkit_trackers":
        assert "'step': 1" in capsys.readouterr().out


# --- the documentation


def python_blocks() -> Iterator[str]:
    yield from re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


def rows() -> dict[str, list[str]]:
    """The table of hooks: the cells of each."""
    found = re.findall(r"^\| \[.+?\]\(plugins/\w+\.md\) \| `(\w+)` \| (.+) \|$", DOCS, re.MULTILINE)
    return {hook: rest.split(" | ") for hook, rest in found}


def test_the_docs_have_a_row_for_each_hook_and_for_no_other() -> None:
    assert list(rows()) == list(HOOKS)
    assert set(re.findall(r"\bmdmkit_\w+", DOCS)) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_row_names_table_and_protocol(hook: str) -> None:
    table, about, named = rows()[hook]
    (told,) = re.findall(r"\[[a-z_.<>]+\]", docstring(hook).splitlines()[0])
    assert table == f"`{told}`"
    assert about
    assert named.split(", ")[0] == f"`{HOOKS[hook].protocol.__name__}`"
    assert all(hasattr(protocols, name.strip("`")) for name in named.split(", "))


def test_the_docs_name_only_what_exists() -> None:
    for name in re.findall(r"`(check_\w+)", DOCS):
        assert name in testing.__all__
    for path in re.findall(r"`(mdmkit\.[\w.]+)", DOCS):
        module, _, name = path.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name), path
    for path in re.findall(r"`(mdmkit/\S+|plugins/\S+)`", DOCS):
        assert (Path(mdmkit.__file__).parents[1] / path).exists(), path


def test_the_30_lines_of_the_docs_keep_the_contract(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, _, examples, tests = python_blocks()  # the second shows protocols
    assert len([line for line in module.splitlines() if line.strip()]) <= 30
    plugin = ModuleType("my_triangle")
    monkeypatch.setitem(sys.modules, "my_triangle", plugin)
    scope = vars(plugin)
    exec(compile(module + examples + tests, "docs", "exec", dont_inherit=True), scope)
    checks: dict[str, Callable[[], None]] = {n: f for n, f in scope.items() if n[:5] == "test_"}
    assert len(checks) == 2
    for check in checks.values():
        check()
    source = Source(
        distribution="mdmkit-triangle", version="1", entry="triangle", load=lambda: plugin
    )
    cases = testing.contract_cases([source], directory=tmp_path)
    places = [case.place for case in cases if "8.0" not in case.place]
    assert [f"mdmkit-contract::mdmkit-triangle::{place}" for place in places] == re.findall(
        r"^mdmkit-contract::\S+$", DOCS, re.MULTILINE
    )
    with pytest.raises(ValueError, match="expected a value > 0"):
        scope["Triangle"](power=0.0)


def test_the_message_of_the_docs_is_the_one_that_is_shown() -> None:
    @frozen(kw_only=True)
    class Mine:
        """A schedule whose derivative has the wrong sign."""

        def alpha(self, t: torch.Tensor) -> torch.Tensor:
            return 1 - t

        def dalpha(self, t: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(t)

        def __repr__(self) -> str:
            return "Mine()"

    with pytest.raises(testing.ContractError) as caught:
        check_component("mdmkit_noise_schedules", Mine())
    assert f"{explain(caught.value)}\n```" in DOCS


def test_the_arguments_of_checks_that_the_docs_name_exist() -> None:
    section = DOCS.partition("### Examples")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (?!component|---)(.+?) \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) == 5
    known = {name for check in CHECKS.values() for name in inspect.signature(check).parameters}
    for _, about in rows:
        assert set(re.findall(r"`([a-z]+)(?:\(directory\))?`", about)) <= known
