"""A run that is followed: what reaches the terminal, and what leaves the view."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from mdmkit.report.run_watch import watch_run

from .runs.folders import make_run


def failed(run: Path, message: str) -> Path:
    """A run that ended with an error of this message."""
    record = {"error": "OSError", "message": message, "step": 9, "time": "2026-01-01"}
    (make_run(run) / "failure.json").write_text(json.dumps(record))
    return run


def test_nothing_that_a_file_says_is_obeyed_by_the_terminal(tmp_path: Path) -> None:
    said = io.StringIO()
    watch_run(Console(file=said), failed(tmp_path / "made-0", "a\x1b[2Jb"))
    assert "\x1b" not in said.getvalue()
    assert "OSError: a\\x1b[2Jb" in said.getvalue()
