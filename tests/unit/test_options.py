from __future__ import annotations

from typing import Any

import attrs
import pytest
from attrs import frozen

from mdmkit.options import METADATA_KEY, Bounds, option


@frozen(kw_only=True)
class Everything:
    share: float = option(0.5, ge=0, le=1, doc="a share")
    width: float = option(0.2, gt=0, lt=10)
    count: int = option(3, ge=1)
    name: str = option("x")
    maybe: float | None = option(None, gt=0)
    many: tuple[int, ...] = option(factory=tuple)


@pytest.mark.parametrize(
    "allowed",
    [
        {"share": 0},
        {"share": 1.0},
        {"width": 1e-9},
        {"count": 10**9},
        {"maybe": 2.0},
        {"maybe": None},
        {"many": (1, 2)},
    ],
)
def test_values_inside_the_bounds_are_taken(allowed: dict[str, Any]) -> None:
    (key,) = allowed
    assert getattr(Everything(**allowed), key) == allowed[key]


@pytest.mark.parametrize(
    ("given", "expected", "found"),
    [
        ({"share": -0.1}, "a value >= 0 and <= 1", "-0.1"),
        ({"share": 1.1}, "a value >= 0 and <= 1", "1.1"),
        ({"width": 0.0}, "a value > 0 and < 10", "0.0"),
        ({"width": 10}, "a value > 0 and < 10", "10"),
        ({"count": 0}, "a value >= 1", "0"),
        ({"maybe": -1.0}, "a value > 0", "-1.0"),
        ({"share": float("nan")}, "a finite number", "nan"),
        ({"width": float("inf")}, "a finite number", "inf"),
    ],
)
def test_values_outside_are_refused_by_name(
    given: dict[str, Any], expected: str, found: str
) -> None:
    (key,) = given
    with pytest.raises(ValueError, match="expected") as caught:
        Everything(**given)
    assert str(caught.value) == f"Everything.{key}: expected {expected}, got {found}"


def test_an_option_without_a_default_is_required() -> None:
    @frozen(kw_only=True)
    class Required:
        path: str = option(doc="where")

    with pytest.raises(TypeError, match="path"):
        Required()  # type: ignore[call-arg]


def test_a_factory_makes_a_default_for_each() -> None:
    @frozen(kw_only=True)
    class Holds:
        items: list[int] = option(factory=list)

    assert Holds().items is not Holds().items


def test_bounds_are_kept_where_the_recipe_loader_reads_them() -> None:
    bounds = attrs.fields(Everything).share.metadata[METADATA_KEY]
    assert bounds == Bounds(ge=0, le=1, doc="a share")


def test_truth_values_and_texts_have_no_bounds() -> None:
    assert Bounds(gt=5).problem(True) is None
    assert Bounds(gt=5).problem("1") is None
    assert Bounds(gt=5).problem(5) == "expected a value > 5, got 5"
