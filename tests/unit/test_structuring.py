from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from mdmkit import protocols
from mdmkit.errors import PluginError
from mdmkit.options import component, option
from mdmkit.plugins import BrokenPlugin, Catalogue, Component
from mdmkit.problems import Problem, StructureError
from mdmkit.structuring import make_converter


class Filling(Protocol):
    """A closed catalogue's type."""


@frozen(kw_only=True)
class Jam:
    fruit: str = "plum"


@frozen(kw_only=True)
class Constant:
    eps: float = option(0.1, ge=0, lt=1)


@frozen(kw_only=True)
class Switch:
    """A component that contains components, at two depths."""

    first: protocols.TimeSampler
    second: protocols.TimeSampler = component("constant")
    more: tuple[protocols.TimeSampler, ...] = ()
    maybe: protocols.TimeSampler | None = None


@frozen(kw_only=True)
class Inner:
    low: float = 0.0
    high: float = 1.0

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@frozen(kw_only=True)
class Everything:
    count: int
    share: float = option(0.5, gt=0, le=1)
    flag: bool = False
    name: str = "x"
    mode: Literal["one", "two", 3] = "one"
    unset: int | None = option(None, ge=1)
    files: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "a")
    numbers: list[float] = attrs.Factory(list)
    ids: Sequence[int] = ()
    tags: frozenset[str] = frozenset()
    steps: int | Literal["all"] = "all"
    place: Path | None = None
    free: Mapping[str, Any] = attrs.Factory(dict)
    inner: Inner = Inner()
    sampler: protocols.TimeSampler = component("constant")
    labelled: Mapping[str, protocols.TimeSampler] = attrs.Factory(dict)
    either: protocols.TimeSampler | tuple[protocols.TimeSampler, ...] = ()
    filling: Filling = component("jam")


def entry(hook: str, kind: str, name: str, cls: type) -> Component:
    return Component(
        hook=hook, kind=kind, name=name, cls=cls, distribution="d", version="1", plugin="p"
    )


COMPONENTS = (
    entry("mdmkit_time_samplers", "time sampler", "constant", Constant),
    entry("mdmkit_time_samplers", "time sampler", "switch", Switch),
)
CONVERTER = make_converter(Catalogue(components=COMPONENTS), {Filling: ("filling", {"jam": Jam})})


def structure(data: Any, cls: type = Everything) -> Any:
    return CONVERTER.structure(data, cls)


def problems(data: Any, cls: type = Everything) -> list[str]:
    with pytest.raises(StructureError) as caught:
        structure(data, cls)
    return [problem.line() for problem in caught.value.problems]


def test_defaults_are_filled_in_and_an_integer_may_be_a_number():
    made = structure({"count": 3, "share": 1})
    assert made == Everything(count=3, share=1.0, sampler=Constant(), filling=Jam())
    assert type(made.share) is float


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("count", "8", 'count: expected an integer, got the string "8"'),
        ("count", 8.0, "count: expected an integer, got the number 8.0"),
        ("count", True, "count: expected an integer, got the boolean true"),
        ("count", None, "count: expected an integer, got null"),
        ("count", [1], "count: expected an integer, got an array"),
        ("count", {"a": 1}, "count: expected an integer, got a table"),
        ("flag", "false", 'flag: expected true or false, got the string "false"'),
        ("flag", 1, "flag: expected true or false, got the integer 1"),
        ("share", "0.5", 'share: expected a number, got the string "0.5"'),
        (
            "share",
            ".5",
            'share: expected a number, got the string ".5"; TOML wants digits on both sides of the '
            "point",
        ),
        ("share", True, "share: expected a number, got the boolean true"),
        ("share", float("nan"), "share: expected a finite number, got the number nan"),
        ("share", 10**400, "share: expected a number, got an integer too large for one"),
        ("share", 0, "share: expected a value > 0 and <= 1, got 0"),
        ("share", 1.5, "share: expected a value > 0 and <= 1, got 1.5"),
        ("unset", 0, "unset: expected a value >= 1, got 0"),
        ("name", 3, "name: expected a string, got the integer 3"),
        (
            "name",
            datetime.date(2024, 1, 2),
            "name: expected a string, got the date or time 2024-01-02 (quote it to make it a "
            "string)",
        ),
        ("mode", "twoo", 'mode: expected "one" or "two" or 3, got the string "twoo"; did you mean '
         '"two"?'),
        ("mode", 3.0, 'mode: expected "one" or "two" or 3, got the number 3.0'),
        ("files", "a", 'files: expected an array, got the string "a"'),
        ("files", ["a", 1], "files[1]: expected a string, got the integer 1"),
        ("pair", [1], "pair: expected an array of 2 entries, got 1"),
        ("pair", ["a", "a"], 'pair[0]: expected an integer, got the string "a"'),
        ("steps", 1.5, 'steps: expected an integer or "all", got the number 1.5'),
        ("place", 1, "place: expected a string, got the integer 1"),
        ("free", 1, "free: expected a table, got the integer 1"),
        ("inner", {"low": 2.0}, "[inner]: low 2.0 is above high 1.0"),
        ("sampler", "constant", 'sampler: expected a table, got the string "constant"'),
        ("sampler", {"use": 3}, "[sampler] use: expected a string, got the integer 3"),
        (
            "sampler",
            {"use": "constnat"},
            '[sampler] use: no time sampler "constnat"; did you mean "constant"? known: constant, '
            "switch",
        ),
        (
            "sampler",
            {"use": "zzz"},
            '[sampler] use: no time sampler "zzz"; known: constant, switch',
        ),
        ("sampler", {"epz": 1.0}, '[sampler] epz: unknown key for "constant"; did you mean eps?'),
        ("sampler", {"eps": 1}, "[sampler] eps: expected a value >= 0 and < 1, got 1"),
        (
            "labelled",
            {"a b": {"eps": 0.2}},
            '[labelled."a b"] use: missing; expected the name of a time sampler; known: constant, '
            "switch",
        ),
        (
            "filling",
            {"use": "jm"},
            '[filling] use: no filling "jm"; did you mean "jam"? known: jam',
        ),
        ("cuont", 1, "cuont: unknown key; did you mean count?"),
        ("zzz", 1, "zzz: unknown key"),
    ],
)  # fmt: skip
def test_nothing_is_coerced_and_every_error_names_its_place(key, value, line):
    assert problems({"count": 1, key: value}) == [line]


def test_use_dispatches_at_any_depth():
    deep = {
        "use": "switch",
        "first": {"use": "switch", "first": {"use": "constant", "eps": 0.3}},
        "more": [{"use": "constant", "eps": 0.4}],
        "maybe": {"use": "constant", "eps": 0.6},
    }
    made = structure({"count": 1, "sampler": deep, "either": [{"use": "constant"}]})
    assert made.sampler == Switch(
        first=Switch(first=Constant(eps=0.3), second=Constant()),
        second=Constant(),
        more=(Constant(eps=0.4),),
        maybe=Constant(eps=0.6),
    )
    assert made.either == (Constant(),)
    deep["first"]["first"]["eps"] = "a"
    deep["more"][0]["use"] = "b"
    assert problems({"count": 1, "sampler": deep}) == [
        '[sampler.first.first] eps: expected a number, got the string "a"',
        '[sampler.more[0]] use: no time sampler "b"; known: constant, switch',
    ]


def test_all_errors_come_at_once():
    data = {"nope": 1, "share": "a", "sampler": {"eps": "b", "x": 1}, "inner": {"low": "c"}}
    assert problems(data) == [
        "nope: unknown key",
        "count: missing; expected an integer",
        'share: expected a number, got the string "a"',
        '[inner] low: expected a number, got the string "c"',
        '[sampler] x: unknown key for "constant"',
        '[sampler] eps: expected a number, got the string "b"',
    ]


def test_missing_tables_are_named_as_tables():
    assert problems({"use": "switch"}, protocols.TimeSampler) == [
        "[first]: missing; expected a table whose use names a time sampler; known: constant, switch"
    ]


def test_the_root_must_be_a_table():
    assert problems(3) == ["expected a table, got the integer 3"]


def test_a_class_that_fits_a_protocol_structurally_is_not_dispatched():
    """A field typed with a component's own class holds that class, without ``use``."""

    assert structure({"eps": 0.2}, Constant) == Constant(eps=0.2)
    assert problems({"use": "constant"}, Constant) == ["use: unknown key"]


def test_a_broken_plugin_is_named_where_it_might_have_helped():
    broken = BrokenPlugin(
        distribution="mdmkit-kuma", version="0.1", entry="k", error="ImportError: x", traceback=""
    )
    converter = make_converter(Catalogue(components=COMPONENTS, broken=(broken,)))
    with pytest.raises(StructureError) as caught:
        converter.structure({"use": "kuma"}, protocols.TimeSampler)
    assert str(caught.value) == (
        'use: no time sampler "kuma"; known: constant, switch; a plugin that might provide it is '
        "broken: mdmkit-kuma 0.1 (k) could not be loaded: ImportError: x"
    )


def test_long_strings_are_cut_in_messages():
    (line,) = problems({"count": "z" * 500})
    assert len(line) < 120
    assert line.endswith('z…"')


def test_unset_options_are_left_out_and_the_name_of_a_component_is_given_back():
    plain = CONVERTER.unstructure(
        structure({"count": 1, "sampler": {"eps": 0.2}}), unstructure_as=Everything
    )
    assert "unset" not in plain
    assert plain["sampler"] == {"use": "constant", "eps": 0.2}
    assert plain["filling"] == {"use": "jam", "fruit": "plum"}
    assert plain["pair"] == [1, "a"]


def test_an_unregistered_component_cannot_be_written():
    made = attrs.evolve(structure({"count": 1}), sampler=Jam())
    with pytest.raises(PluginError, match="Jam is not a registered time sampler"):
        CONVERTER.unstructure(made, unstructure_as=Everything)


INTEGERS = st.integers(-(2**63), 2**63 - 1)
constants = st.builds(Constant, eps=st.floats(0, 1, exclude_max=True))
samplers = st.recursive(
    constants,
    lambda inner: st.builds(
        Switch,
        first=inner,
        second=inner,
        more=st.lists(inner, max_size=2).map(tuple),
        maybe=st.none() | inner,
    ),
    max_leaves=4,
)
everything = st.builds(
    Everything,
    count=INTEGERS,
    share=st.floats(0, 1, exclude_min=True),
    flag=st.booleans(),
    name=st.text(),
    mode=st.sampled_from(["one", "two", 3]),
    unset=st.none() | st.integers(1, 2**63 - 1),
    files=st.lists(st.text(), max_size=2).map(tuple),
    pair=st.tuples(INTEGERS, st.text()),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    ids=st.lists(INTEGERS, max_size=2).map(tuple),
    tags=st.frozensets(st.text(), max_size=2),
    steps=INTEGERS | st.just("all"),
    place=st.none() | st.sampled_from([Path("a"), Path("b/c")]),
    free=st.dictionaries(st.text(), INTEGERS | st.text(), max_size=2),
    inner=st.builds(Inner, low=st.floats(-1, 0), high=st.floats(0, 1)),
    sampler=samplers,
    labelled=st.dictionaries(st.text(), samplers, max_size=2),
    either=samplers | st.lists(samplers, max_size=2).map(tuple),
    filling=st.builds(Jam, fruit=st.text()),
)


@given(everything)
def test_structuring_undoes_unstructuring(made: Everything):
    plain = CONVERTER.unstructure(made, unstructure_as=Everything)
    assert structure(plain) == made


@pytest.mark.parametrize(
    ("path", "table", "place"),
    [
        ((), True, ""),
        (("a",), False, "a: "),
        (("a",), True, "[a]: "),
        (("a", "b"), False, "[a] b: "),
        (("a", "b c", "d"), False, '[a."b c"] d: '),
        (("a", "b", 0, 1), False, "[a] b[0][1]: "),
        (("a", 0, "b"), False, "[a[0]] b: "),
        (("a", 0), True, "[a[0]]: "),
    ],
)
def test_a_problem_says_its_place_as_toml_would(path, table, place):
    assert Problem(path=path, message="wrong", table=table).line() == f"{place}wrong"
