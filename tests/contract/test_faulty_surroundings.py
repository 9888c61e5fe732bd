"""Evaluators, corpora, trackers and options with one fault each, which the checks must find."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
import torch
from attrs import define, frozen

from mdmkit.builtin.corpora.text import Text
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.testing import CHECKS, ContractError, check_options
from mdmkit.values import Measurement

FAULTS: list[Any] = []


def fault(hook: str, clause: str, **settings: Any) -> Any:
    """Plant a class: its check must fail, and with this clause."""

    def plant(cls: type) -> type:
        FAULTS.append(pytest.param(hook, cls, clause, settings, id=cls.__name__))
        return cls

    return plant


# --- surroundings


@define
class _Numbers:
    stderr: float
    provenance: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 0

    def compute(self) -> dict[str, Measurement]:
        return {"x": Measurement(value=1.0, stderr=self.stderr)}


@fault("mdmkit_evaluators", "comes with its standard error")
@frozen(kw_only=True)
class NoError:
    def build(self, context: Any) -> _Numbers:
        return _Numbers(float("nan"))


@fault("mdmkit_evaluators", "len is equal on every rank")
@frozen(kw_only=True)
class UnevenWork:
    def build(self, context: Any) -> Any:
        return range(context.rank)


@fault("mdmkit_evaluators", "contract_examples(directory) may write files")
@frozen(kw_only=True)
class DataElsewhere:
    def build(self, context: Any) -> Any:
        raise DataError("no such file")


@fault("mdmkit_evaluators", "returns a tensor or a tuple of tensors")
@frozen(kw_only=True)
class ReturnsFloats:
    def build(self, context: Any) -> Any:
        return context.call(lambda _: [1.0])


@fault("mdmkit_corpora", "the order never changes", splits=("train",))
@frozen(kw_only=True)
class Shuffles(Text):
    def documents(self, split: str) -> Any:
        return (str(i) for i in torch.randperm(50).tolist())

    def fingerprint(self, split: str) -> str:
        return split

    def describe(self, split: str) -> dict[str, Any]:
        return {}


@fault("mdmkit_corpora", "the fingerprint differs", splits=("train", "test"))
@frozen(kw_only=True)
class OneFingerprint(Text):
    def documents(self, split: str) -> Any:
        return iter([split])

    def fingerprint(self, split: str) -> str:
        return "same"

    def describe(self, split: str) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("hook", "cls", "clause", "settings"), FAULTS)
def test_a_planted_fault_is_found(
    hook: str, cls: type, clause: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ContractError) as caught:
        CHECKS[hook](cls(), **settings)
    assert clause in caught.value.clause
    assert caught.value.found


def test_a_tracker_that_forgets_nothing_is_found(tmp_path: Any) -> None:
    @frozen(kw_only=True)
    class Hoarder:
        def build(self, run: Any) -> Any:
            return self

        def resume(self, step: int) -> None: ...
        def log(self, metrics: Any) -> None:
            lines.append(metrics)

        def close(self) -> None: ...

    lines: list[Any] = []
    with pytest.raises(ContractError, match="are forgotten"):
        CHECKS["mdmkit_trackers"](Hoarder(), tmp_path, read=lambda _: lines)


# --- options


@define(kw_only=True)
class NotFrozen:
    """Can be changed."""

    width: float = option(1.0)


@frozen
class Positional:
    """Takes its option by position."""

    width: float = option(1.0)


@frozen(kw_only=True)
class HoldsAFunction:
    """Holds what no recipe can."""

    act: Any = option(None)


@frozen(kw_only=True)
class BadDefault:
    """Has a default out of its bounds."""

    width: float = option(-1.0, gt=0)


@frozen(kw_only=True)
class Undocumented:
    width: float = option(1.0)


@frozen(kw_only=True)
class NamedUse:
    """Has an option with the name of the key that chooses it."""

    use: str = option("x")


@frozen(kw_only=True)
class DefaultOfAnotherType:
    """Has a default that its own type does not allow."""

    width: int = option(0.5)


class Plain:
    """Has no attrs fields."""


@pytest.mark.parametrize(
    ("cls", "clause"),
    [
        (NotFrozen, "frozen"),
        (Positional, "keyword-only"),
        (HoldsAFunction, "a type that a recipe can hold"),
        (BadDefault, "the defaults are allowed values"),
        (Undocumented, "docstring"),
        (NamedUse, "`use`"),
        (DefaultOfAnotherType, "survive being written"),
        (Plain, "attrs class"),
    ],
)
def test_bad_options_are_found(cls: type, clause: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_options(cls)
    assert clause in caught.value.clause


def test_options_with_names_unknown_at_run_time_are_found() -> None:
    cls = attrs.make_class("Lost", {"when": attrs.field(type="NoSuchType")}, frozen=True)
    cls.__doc__ = "Refers to a type that nobody imported."
    with pytest.raises(ContractError, match="known at run time"):
        check_options(cls)
