from __future__ import annotations

import json
from pathlib import Path

import pytest

from .commands import mdmkit, refused


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MDMKIT_PLUGINS", "none")
    monkeypatch.chdir(tmp_path)


def test_schema_is_printed_or_written() -> None:
    printed = mdmkit("schema")
    assert (printed.code, printed.err) == (0, "")
    Path("old.json").write_text("old")
    written = mdmkit("schema", "--out", "old.json")
    assert (written.code, written.out) == (0, "old.json\n")
    assert json.loads(Path("old.json").read_text()) == json.loads(printed.out)
    assert [path.name for path in Path().iterdir()] == ["old.json"]


def test_the_schema_has_the_components_of_plugins(monkeypatch, distribution, triangle) -> None:
    monkeypatch.setenv("MDMKIT_PLUGINS", "mdmkit-triangle,mdmkit-broken")
    distribution("mdmkit-triangle", triangle)
    distribution("mdmkit-broken", "import nothing_there", entry="bad")
    said = mdmkit("schema")
    assert said.code == 0
    options = json.loads(said.out)["$defs"]["time_sampler.triangle"]["properties"]
    assert options["slope"] == {"type": "number", "exclusiveMinimum": 0, "default": 2.0}
    assert said.err.startswith("not in the schema: mdmkit-broken 1.0 (bad) could not be loaded")


def test_a_schema_that_cannot_be_written_is_said() -> None:
    assert refused("schema", "--out", "nowhere/x.json") == (
        "nowhere/x.json: cannot be written: No such file or directory\n"
    )
