from __future__ import annotations

from pathlib import Path

import pytest

from mdmkit.report.page import write

from ..unit.comparison.synthetic import write_run
from .commands import mdmkit, refused

pytest.importorskip("plotly", reason="figures are drawn by plotly's script")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs", "one", steps=(0, 50))
    return tmp_path


def test_a_page_is_written_and_damage_is_said(folder):
    (folder / "runs" / "one-00000001" / "recipe.toml").mkdir()
    out = folder / "page.html"
    said = mdmkit("report", "one", "--runs-dir", folder / "runs", "--out", out)
    assert (said.code, said.out) == (0, "")
    lines = said.err.splitlines()
    assert "recipe.toml: cannot be read" in lines[0]
    assert lines[-1] == f"{out}: written"
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("two",), 1, 'run "two": no such run directory; runs in'),
        (("one", "--out", "no/such/place.html"), 2, "make no/such first"),
        (("one", "--out", "."), 2, "give it a name"),
    ],
)
def test_mistakes_are_one_clear_message(folder, monkeypatch, arguments, code, words):
    monkeypatch.chdir(folder)
    assert words in refused("report", *arguments, "--runs-dir", folder / "runs", code=code)
    assert not (folder / "report.html").exists()


def test_without_plotly_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(write, "find_spec", lambda _name: None)
    said = refused("report", "one", "--runs-dir", folder / "runs", "--out", folder / "a.html")
    assert said.startswith("mdmkit report: the package plotly is not installed")
    assert "pip install 'mdmkit[plot]'" in said
