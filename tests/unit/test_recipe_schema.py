from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import pytest
from attrs import frozen
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mdmkit import protocols
from mdmkit.annotations import fields, is_attrs, is_mapping
from mdmkit.choices import USE, all_choices
from mdmkit.options import DEFAULT_USE, METADATA_KEY, component, option
from mdmkit.plugins import Catalogue, Component, load_catalogue
from mdmkit.problems import StructureError
from mdmkit.recipe import (
    CLOSED_TABLES,
    Recipe,
    dump_recipe,
    load_recipe,
    recipe_names,
)
from mdmkit.recipe_files import recipe_path
from mdmkit.recipe_schema import recipe_schema
from mdmkit.structuring import make_converter

BUILTIN = load_catalogue({"MDMKIT_PLUGINS": "none"})


@frozen(kw_only=True)
class Span:
    """A table in a component."""

    low: float
    high: float = option(1.0, gt=0, le=1, doc="where it ends")


@frozen(kw_only=True)
class Switch:
    """A component that contains components, itself among them, and every kind of value."""

    first: protocols.TimeSampler
    second: protocols.TimeSampler = component("uniform", doc="what comes then")
    third: protocols.TimeSampler = component("demanding")
    more: tuple[protocols.TimeSampler, ...] = ()
    maybe: protocols.TimeSampler | None = None
    span: Span | None = None
    shares: Mapping[str, float] = attrs.Factory(dict)
    pair: tuple[int, str] = (1, "a")
    tags: frozenset[str] = frozenset({"b", "a"})
    steps: int | Literal["all"] = option("all", ge=1)
    limit: int | None = option(None, ge=1, lt=9)
    place: Path = Path("here")
    free: Mapping[str, Any] = attrs.Factory(dict)


@frozen(kw_only=True)
class Demanding:
    """A component with an option that must be said."""

    power: float = option(gt=0)


def _sampler(name: str, cls: type) -> Component:
    return Component(
        hook="mdmkit_time_samplers",
        kind="time sampler",
        name=name,
        cls=cls,
        distribution="d",
        version="1",
        plugin="p",
    )


CATALOGUE = Catalogue(
    components=(*BUILTIN.components, _sampler("switch", Switch), _sampler("demanding", Demanding))
)
SCHEMA = recipe_schema(CATALOGUE)
VALIDATOR = Draft202012Validator(SCHEMA)
CONVERTER = make_converter(CATALOGUE, CLOSED_TABLES)
CHOICES = all_choices(CATALOGUE, CLOSED_TABLES)
BASE = dump_recipe(load_recipe("quickstart_bell", catalogue=BUILTIN), BUILTIN)


def refused(data: Any) -> list[tuple[str | int, ...]]:
    """Where the converter finds something wrong, as far as tables are right by themselves."""
    try:
        CONVERTER.structure(data, Recipe)
    except StructureError as error:
        return [problem.path for problem in error.problems]
    return []


def with_table(path: tuple[str, ...], table: Any) -> dict[str, Any]:
    """The quickstart with another table at `path`."""
    data: dict[str, Any] = copy.deepcopy(BASE)
    inside = data
    for key in path[:-1]:
        inside = inside.setdefault(key, {})
    inside[path[-1]] = table
    return data


def samplers(**table: Any) -> dict[str, Any]:
    """The quickstart with another time sampler."""
    return with_table(("time_sampler",), table)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    json.dumps(SCHEMA, allow_nan=False)


def test_every_reference_leads_somewhere_and_limits_nothing_beside_it() -> None:
    def walk(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield node
        for inside in node.values() if isinstance(node, dict) else node:
            if isinstance(inside, dict | list):
                yield from walk(inside)

    references = [node for node in walk(SCHEMA) if "$ref" in node]
    assert len(references) > 50
    for node in references:
        assert node["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
        assert set(node) <= {"$ref", "description", "default"}


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_and_what_they_resolve_to_are_valid(name: str) -> None:
    written = tomllib.loads(recipe_path(name).read_text(encoding="utf-8"))
    resolved = dump_recipe(load_recipe(name, catalogue=BUILTIN), BUILTIN)
    for data in (written, resolved):
        assert [error.message for error in VALIDATOR.iter_errors(data)] == []


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"eps": 0.1},
        {"use": "switch", "first": {"use": "bell"}, "third": {"power": 2}},
        {
            "use": "switch",
            "first": {"use": "switch", "first": {"use": "uniform"}, "third": {"power": 1.5}},
            "second": {"use": "bell", "width": 1},
            "third": {"use": "uniform"},
            "more": [{"use": "uniform"}, {"use": "bell"}],
            "maybe": {"use": "bell"},
            "span": {"low": -1, "high": 0.5},
            "shares": {"any": 1, "name": 0.5},
            "pair": [2, "b"],
            "tags": ["x"],
            "steps": 3,
            "limit": 8,
            "place": "there",
            "free": {"x": [1, {"y": "z"}]},
        },
    ],
)
def test_components_in_components_are_valid_at_any_depth(table: dict[str, Any]) -> None:
    data = samplers(**table)
    assert refused(data) == []
    assert VALIDATOR.is_valid(data), list(VALIDATOR.iter_errors(data))


NEST = {"use": "switch", "first": {"use": "uniform"}, "third": {"power": 1}}


@pytest.mark.parametrize(
    ("path", "table"),
    [
        (("time_sampler",), {"use": "bel"}),
        (("time_sampler",), {"use": 3}),
        (("time_sampler",), {"width": 0.1}),  # an option of another than the default
        (("time_sampler",), {"use": "bell", "wdth": 0.1}),
        (("time_sampler",), {"use": "bell", "width": 0}),
        (("time_sampler",), {"use": "bell", "eps": 0.1}),
        (("time_sampler",), {"use": "switch", "third": {"power": 1}}),  # without first
        (("time_sampler",), {"use": "switch", "first": {"use": "uniform"}}),  # third has no power
        (("time_sampler",), {**NEST, "first": {}}),
        (("time_sampler",), {**NEST, "first": {"use": "bell", "width": "1"}}),
        (("time_sampler",), {**NEST, "second": {"use": "dit"}}),
        (("time_sampler",), {**NEST, "more": {"use": "bell"}}),
        (("time_sampler",), {**NEST, "more": [{"use": "bell", "floor": 2}]}),
        (("time_sampler",), {**NEST, "span": {"high": 0.5}}),
        (("time_sampler",), {**NEST, "span": {"low": 0.1, "hihg": 0.5}}),
        (("time_sampler",), {**NEST, "shares": {"a": "b"}}),
        (("time_sampler",), {**NEST, "pair": [1]}),
        (("time_sampler",), {**NEST, "pair": ["a", "a"]}),
        (("time_sampler",), {**NEST, "pair": [1, "a", 1]}),
        (("time_sampler",), {**NEST, "tags": [1]}),
        (("time_sampler",), {**NEST, "steps": 0}),
        (("time_sampler",), {**NEST, "steps": "some"}),
        (("time_sampler",), {**NEST, "limit": 9}),
        (("time_sampler",), "bell"),
        (("evaluators",), {"mine": {"use": "nothing"}}),
        (("evaluators",), {"mine": {"draws": 1}}),
        (("evaluators",), [1]),
        (("trackers", "mine"), {"use": "jsonl", "file": 1}),
        (("run",), {"seed": 1}),
        (("data",), {key: value for key, value in BASE["data"].items() if key != "length"}),
        (("data", "corpus"), {}),
        (("data", "tokenizer"), {"use": "packed"}),
        (("nothing",), {}),
        (("extend",), "quickstart_bell"),
    ],
)
def test_what_is_wrong_is_refused_by_both(path: tuple[str, ...], table: Any) -> None:
    data = with_table(path, table)
    assert refused(data)
    assert not VALIDATOR.is_valid(data)


@pytest.mark.parametrize("path", [("run",), ("data",), ("denoiser",), ("train",)])
def test_what_is_required_may_be_left_out_by_a_recipe_that_extends_another(path) -> None:
    data = copy.deepcopy(BASE)
    del data[path[0]]
    assert refused(data)
    assert not VALIDATOR.is_valid(data)
    assert VALIDATOR.is_valid({"extends": "base.toml", **data})


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        ({"extends": "quickstart_bell"}, True),
        ({"extends": "quickstart_bell", "time_sampler": {"width": 0.1}}, True),
        ({"extends": "quickstart_bell", "time_sampler": {"use": "switch"}}, True),
        ({"extends": "x", "time_sampler": {"first": {"width": 0.1}}}, True),
        ({"extends": "quickstart_bell", "data": {"length": 64}}, True),
        ({"extends": "quickstart_bell", "time_sampler": {"wdth": 0.1}}, False),
        ({"extends": "quickstart_bell", "time_sampler": {"width": -0.1}}, False),
        ({"extends": "quickstart_bell", "time_sampler": {"use": "uniform", "width": 1}}, False),
        ({"extends": "quickstart_bell", "time_sampler": {"use": "bel"}}, False),
        ({"extends": "quickstart_bell", "train": {"steps": "2"}}, False),
        ({"extends": "quickstart_bell", "nothing": {}}, False),
        ({"extends": 1}, False),
    ],
)
def test_a_recipe_that_extends_another_is_checked_for_what_it_says(data, valid: bool) -> None:
    assert VALIDATOR.is_valid(data) is valid


def test_labels_are_those_that_a_recipe_may_have() -> None:
    assert VALIDATOR.is_valid(with_table(("evaluators", "a.b-1"), {"use": "nelbo"}))
    assert not VALIDATOR.is_valid(with_table(("evaluators", "../x"), {"use": "nelbo"}))


def test_an_editor_finds_meaning_default_and_bounds() -> None:
    bell = SCHEMA["$defs"]["time_sampler.bell"]
    assert bell["description"].startswith("A normal density truncated to (0, 1)")
    assert bell["properties"]["width"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1000,
        "description": "standard deviation before truncation, in t",
        "default": 0.2,
    }
    switch = SCHEMA["$defs"]["time_sampler.switch"]["properties"]
    assert switch["second"]["description"] == "what comes then"
    assert switch["tags"]["default"] == ["a", "b"]
    assert switch["place"] == {"type": "string", "default": "here"}
    assert "default" not in switch["limit"]
    assert SCHEMA["$defs"]["mdmkit.recipe.Train"]["properties"]["precision"]["enum"] == [
        "bf16", "fp32", "bf16_weights",
    ]  # fmt: skip


# --- schema and converter agree on every option


def _tables() -> Iterator[tuple[tuple[str, ...], dict[str, Any], type]]:
    """(path, a table that is right, its class) of every table and every component."""

    def of(path: tuple[str, ...], annotation: Any) -> Iterator[Any]:
        if any(annotation is known for known in CHOICES):
            for name, cls in CHOICES[annotation].classes.items():
                yield path, {USE: name, **_required(cls)}, cls
        elif is_mapping(annotation):
            yield from of((*path, "label"), get_args(annotation)[1])
        elif is_attrs(annotation):
            table = BASE
            for key in path:
                table = table[key]
            yield path, table, annotation
            for name, field in fields(annotation).items():
                yield from of((*path, name), field.type)

    for name, field in fields(Recipe).items():
        yield from of((name,), field.type)


def _required(cls: type) -> dict[str, Any]:
    examples: dict[Any, Any] = {str: "x", float: 0.5, protocols.TimeSampler: {"use": "uniform"}}
    needed = {
        name: get_args(field.type)[0] if get_origin(field.type) is Literal else examples[field.type]
        for name, field in fields(cls).items()
        if field.default is attrs.NOTHING and DEFAULT_USE not in field.metadata
    }
    return {**needed, "third": {"power": 1}} if cls is Switch else needed


OPTIONS = [(path, table, cls, name) for path, table, cls in _tables() for name in fields(cls)]


def edges(field: attrs.Attribute[Any]) -> list[Any]:
    """Values at and near the bounds of the option, and the words that it may be."""
    bounds = field.metadata.get(METADATA_KEY)
    limits = [getattr(bounds, name, None) for name in ("ge", "gt", "le", "lt")]
    near = [
        value
        for limit in limits
        if limit is not None
        for value in (limit, float(limit), limit - 1, limit + 1, limit - 1e-9, limit + 1e-9)
    ]
    words = [word for kind in (field.type, *get_args(field.type)) for word in get_args(kind)]
    return [*near, *(word for word in words if isinstance(word, str)), 1, 0.5, "x", True]


ANYTHING = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 2), max_size=1),
)


def comparable(path: tuple[str, ...], field: attrs.Attribute[Any], value: Any) -> bool:
    """JSON has one kind of number, and what a run's name may look like is said in words alone."""
    whole_number = isinstance(value, float) and value.is_integer() and field.type is not float
    is_name = path == ("run",) and field.name == "name" and isinstance(value, str)
    return not (whole_number or is_name)


def agree(path: tuple[str, ...], table: dict[str, Any], name: str, value: Any) -> bool:
    """Whether schema and converter say the same of a value of one option."""
    whole = with_table(path, {**table, name: value})
    wrong = any(where[: len(path) + 1] == (*path, name) for where in refused(whole))
    return VALIDATOR.is_valid(whole) is not wrong


def test_schema_and_converter_have_the_same_bounds_and_words() -> None:
    tried = 0
    for path, table, cls, name in OPTIONS:
        field = fields(cls)[name]
        for value in edges(field):
            if comparable(path, field, value):
                assert agree(path, table, name, value), f"{path} {name} = {value!r}"
                tried += 1
    assert tried > 400


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(OPTIONS), ANYTHING)
def test_schema_and_converter_take_the_same_values(case: Any, value: Any) -> None:
    path, table, cls, name = case
    assume(comparable(path, fields(cls)[name], value))
    assert agree(path, table, name, value), f"{path} {name} = {value!r}"


def test_every_table_refuses_an_unknown_key() -> None:
    tables = list(_tables())
    assert len(tables) > 25
    for path, table, _ in tables:
        assert VALIDATOR.is_valid(with_table(path, table)), path
        unknown = with_table(path, {**table, "unknown": 1})
        assert refused(unknown) == [(*path, "unknown")]
        assert not VALIDATOR.is_valid(unknown)
        assert not VALIDATOR.is_valid({"extends": "x", **unknown})


def test_the_one_difference_is_that_json_has_no_integers_of_its_own() -> None:
    data = with_table(("train", "steps"), 8.0)
    assert refused(data) == [("train", "steps")]
    assert VALIDATOR.is_valid(data)
