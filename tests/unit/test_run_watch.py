"""A run that is followed: what reaches the terminal, and what leaves the view."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mdmkit.report.run_watch import _keys, watch_run

from .runs.folders import make_run


def failed(run: Path, message: str) -> Path:
    """A run that ended with an error of this message."""
    record = {"error": "OSError", "message": message, "step": 9, "time": "2026-01-01"}
    (make_run(run) / "failure.json").write_text(json.dumps(record))
    return run


def test_nothing_that_a_file_says_is_obeyed_by_the_terminal(tmp_path: Path) -> None:
    said = io.StringIO()
    watch_run(Console(file=said), failed(tmp_path / "made-0", "a\x1b[2Jb :smile:"))
    assert "\x1b" not in said.getvalue()
    assert "OSError: a\\x1b[2Jb :smile:" in said.getvalue()


@pytest.mark.parametrize(
    ("typed", "leaves"), [(b"q", True), (b"xyQ", True), (b"\x1b[A", False), (b"", True)]
)
def test_keys_that_leave(monkeypatch: pytest.MonkeyPatch, typed: bytes, leaves: bool) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as keyboard, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", keyboard)
        with _keys() as pause:
            assert not pause(0.0)
            os.write(ours, typed or b"x")
            if not typed:  # as at the end of the input
                patch.setattr(os, "read", lambda *_: b"")
            assert pause(9.0) is leaves
            assert not typed or not pause(0.0)  # nothing is kept for later
    os.close(ours)
