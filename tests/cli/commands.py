"""Typing commands, as tests do it: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit.cli import main
from mdmkit.metrics_log import read_metrics

UNREPEATABLE = ("seconds", "train/tokens_per_second")


@frozen
class Said:
    """What a command left: its exit status and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def mdmkit(*arguments: object) -> Said:
    """Type ``mdmkit ARGUMENTS…``; there is no terminal, and never a traceback."""
    said = typed(*arguments)
    assert "Traceback" not in said.out + said.err
    return said


def typed(*arguments: object) -> Said:
    """The same, for a command that shows tracebacks of others."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    said = Said(code, out.getvalue(), err.getvalue())
    assert "\x1b" not in said.out + said.err
    return said


def refused(*arguments: object, code: int = 2) -> str:
    """What a command that is to fail says on stderr; it prints no result."""
    said = mdmkit(*arguments)
    assert said.code == code, said.err
    assert "Run directory" not in said.out
    return said.err


def changed(*assignments: str) -> list[str]:
    """The arguments that change a recipe's keys."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def in_a_process(*arguments: object, **options: Any) -> Said:
    """The same in a process of its own; `options` are those of `subprocess.run`."""
    command = [sys.executable, "-m", "mdmkit", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def run_directory(said: Said) -> Path:
    """The run directory that a run printed."""
    (line,) = [line for line in said.lines if line.startswith("Run directory: ")]
    return Path(line.removeprefix("Run directory: "))


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log without what the clock has a say in."""
    lines = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in UNREPEATABLE} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` and its content."""
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
