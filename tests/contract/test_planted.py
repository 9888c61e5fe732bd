"""The faults of planted.py are found: by ``pytest --mdmkit-contract``, and by `check_all`."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.mask_patterns import Independent
from mdmkit.testing import ContractsError, check_all, check_component

SOURCE = Path(__file__).with_name("planted.py")

CLAUSES = {
    "denoisers::leaks": "a prediction depends on xt (and t) alone, not on text that was seen",
    "denoisers::looks_across": "predictions factorise over positions",
    "denoisers::sees_the_future": "with attention.causal, position i sees positions <= i only",
    "noise_schedules::wrong_sign": "dalpha is negative inside (0, 1)",
    "time_samplers::nine_tenths": "the density integrates to 1 over (0, 1)",
    "time_samplers::falls": "icdf increases",
    "time_samplers::touches_one": "icdf(u) lies inside (0, 1)",
    "time_samplers::forgets": "a saved and loaded state goes on the same",
    "time_samplers::shares": "what one live sampler learns stays its own",
    "mask_patterns::too_much": "masked with probability rate(rate, member, size)",
    "mask_patterns::remembers": "the mask is a function of its arguments",
    "mask_patterns::odd_twins": "the rate of a twin is the rate asked for, or 1 minus it",
    "loss_weightings::negative": "weights are finite and positive",
    "objectives::mean": "Loss.total is the weighted sum of cross-entropies, never a mean",
    "objectives::miscounts": "Bound.masked is from 0 to Bound.tokens",
    "objectives::open": "exp(−nats) over all texts sums to 1",
    "samplers::overwrites": "a token visible at the start never changes",
    "evaluators::no_error": "every number is finite and comes with its standard error",
    "corpora::shuffles": "the order never changes",
    "trackers::keeps_lines": "lines past the step given to resume are forgotten",
    "time_samplers::needs": "a component with required options has examples to check",
}
RAISES = {
    "time_samplers::divides": ("ZeroDivisionError: ", "in icdf: return u / (1 // 0)"),
    "evaluators::needs_documents": ("AttributeError: ", "in compute: documents = blocks."),
}
THAWED = """
from attrs import define
from mdmkit import hookimpl

@define(kw_only=True)
class Thawed:
    width: float = 1.0

    def at(self, step): ...

@hookimpl
def mdmkit_time_samplers():
    return {"thawed": Thawed}
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, run_pytest: Callable[..., Any]) -> Any:
    root = tmp_path_factory.mktemp("planted")
    info = root / "mdmkit_planted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mdmkit-planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mdmkit]\nplanted = planted_faults\nthawed = planted_thawed\n"
    )
    (root / "planted_faults.py").write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    (root / "planted_thawed.py").write_text(THAWED)
    empty = tmp_path_factory.mktemp("empty")
    return run_pytest(empty, "--mdmkit-contract", "mdmkit-planted", plugin=root)


def shown(outcome: Any, place: str) -> str:
    """The failure of one check, as the terminal shows it."""
    title = f"mdmkit-contract::mdmkit-planted::{place}"
    match = re.search(
        rf"^_+ {re.escape(title)} _+\n(.*?)(?=^_+ |^[=-]+)", outcome.output, re.M | re.S
    )
    assert match is not None, outcome.output
    return match[1]


@pytest.mark.parametrize(("place", "clause"), CLAUSES.items(), ids=CLAUSES)
def test_a_planted_fault_is_reported_with_its_clause(planted: Any, place: str, clause: str) -> None:
    lines = shown(planted, place).splitlines()
    says = [line for line in lines if line.startswith("    the contract says: ")]
    assert len(says) == 1
    assert clause in says[0]
    found = lines[lines.index(says[0]) + 1]
    assert re.match(r"    found: \S", found)
    assert len(lines) == 3, "no traceback, and nothing else"


@pytest.mark.parametrize(("place", "texts"), RAISES.items(), ids=RAISES)
def test_what_a_component_raises_is_shown_with_its_own_lines_alone(
    planted: Any, place: str, texts: tuple[str, str]
) -> None:
    first, *frames = shown(planted, place).splitlines()
    assert first.startswith(f"    the check ran into {texts[0]}")
    assert texts[1] in frames[-1]
    assert all("planted_faults.py:" in frame for frame in frames)


def test_a_plugin_that_does_not_load_fails_and_the_others_go_on(planted: Any) -> None:
    text = shown(planted, "plugin::thawed")
    assert "the contract says: a plugin can be imported, and its hooks return" in text
    assert "Thawed is not frozen" in text
    assert "lacks density" not in text
    assert planted.status == 1
    assert len(planted.tests) == len(CLAUSES) + len(RAISES) + 1
    assert all(planted.tests.values())


# --- the same without pytest's plugin


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_module", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "planted_module", module)  # attrs looks up types there
    spec.loader.exec_module(module)
    return module


def test_check_all_reports_every_fault_together(module: ModuleType) -> None:
    with pytest.raises(ContractsError) as caught:
        check_all(module)
    errors = caught.value.errors
    assert set(errors) == {*CLAUSES, *RAISES}
    text = str(caught.value)
    assert text.startswith(f"planted_module fails {len(errors)} of {len(errors)} contract checks\n")
    for place, clause in CLAUSES.items():
        part = text.partition(f"\nplanted_module::{place}\n")[2].partition("\n\n")[0]
        assert clause in part
        assert "    found: " in part


def test_the_frames_that_faults_are_planted_in_are_sound(module: ModuleType) -> None:
    @frozen(kw_only=True)
    class Learns:
        """Saves what the validations taught it."""

        def build(self, facts: Any) -> Any:
            return module._Learner()

    check_component("mdmkit_time_samplers", Learns())
    sound = frozen(kw_only=True)(type("Sound", (module._Small,), {"__doc__": "Sound."}))
    check_component("mdmkit_denoisers", sound())


def test_twins_may_be_masked_at_the_mirrored_rate() -> None:
    @frozen(kw_only=True)
    class Mirrored(Independent):
        """Masks a position in one of two rows."""

        group: ClassVar[int] = 2
        count_law: ClassVar[str] = "other"

        def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
            return rate + member * (1 - 2 * rate)

        def mask(self, *, member: Tensor, **rest: Any) -> Tensor:
            return (super().mask(**rest) ^ (member == 1)[:, None]) & rest["maskable"]

    check_component("mdmkit_mask_patterns", Mirrored())
