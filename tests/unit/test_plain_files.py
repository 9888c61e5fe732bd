from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdmkit.plain_files import DEEPEST, MOST_DOTS, parse_json, parse_toml, read_bytes, read_json


def nested(depth: int, left: str, right: str) -> str:
    return left * depth + "1" + right * depth


def test_what_is_plain_comes_through() -> None:
    value = {"a": [1, -2.5, None, True, "é\U0001f600", {"b": 10**100}]}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(nested(DEEPEST, "[", "]")) is not None
    assert parse_toml("x = " + nested(DEEPEST - 1, "[", "]"))
    assert parse_toml("x = [" + ",".join(["0.5"] * 5 * MOST_DOTS) + "]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(DEEPEST + 1, "[", "]"), "nested too deep"),
        (nested(10**5, "[", "]"), "nested too deep"),
        (nested(10**5, '{"a":', "}"), "nested too deep"),
        ("[NaN]", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("1e999", "too large for a number"),
        ("9" * 5000, "Exceeds the limit"),
        (r'"\ud800"', "surrogates not allowed"),
        (r'{"\udfff": 1}', "surrogates not allowed"),
        (b"\xff", "can't decode byte"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + nested(DEEPEST, "[", "]"), "nested too deep"),
        ("x = " + nested(10**4, "[", "]"), "nested too deep"),
        (".".join("a" * 100) + " = 1", "nested too deep"),
        (".".join("1" * (2 * MOST_DOTS + 4)) + " = 1", "dots outside of numbers"),
        ("x = 0x" + "f" * 5000, "thousands of digits"),
        ("x = ", "Invalid value"),
    ],
)
def test_toml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


def test_sizes(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert read_json(path) == [1]
    assert read_bytes(path, 3) == b"[1]"
    with pytest.raises(ValueError, match="3 bytes; expected 2 at most"):
        read_bytes(path, 2)
