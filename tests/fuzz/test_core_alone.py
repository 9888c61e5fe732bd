"""Plugins are what the user installed and nothing else; ``MDMKIT_PLUGINS=none`` loads none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
import os
from pathlib import Path
Path(os.environ["CANARY"]).write_text("it ran")
from mdmkit import hookimpl

@hookimpl
def mdmkit_time_samplers():
    return {}
"""
COMMAND = """
import os
from pathlib import Path
Path(os.environ["CANARY"]).write_text("it ran")

def hello() -> None:
    pass
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder with a distribution: a plugin and a command whose imports leave a trace."""
    root = tmp_path / "site"
    info = root / "mdmkit_planted-1.0.dist-info"
    info.mkdir(parents=True)
    (root / "planted.py").write_text(PLUGIN)
    (root / "planted_command.py").write_text(COMMAND)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mdmkit-planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mdmkit]\nplugin = planted\n\n[mdmkit.commands]\nhello = planted_command:hello\n"
    )
    return root


def mdmkit(planted: Path, tmp_path: Path, plugins: str | None, *words: object) -> tuple[int, bool]:
    """The exit status of a command, and whether anything of the plugin ran."""
    canary = tmp_path / "canary"
    canary.unlink(missing_ok=True)
    # An empty entry would be the working directory.
    paths = os.pathsep.join(filter(None, [str(planted), os.environ.get("PYTHONPATH", "")]))
    environ = {**os.environ, "PYTHONPATH": paths, "CANARY": str(canary)}
    environ.pop("MDMKIT_PLUGINS", None)
    if plugins is not None:
        environ["MDMKIT_PLUGINS"] = plugins
    done = subprocess.run(
        [sys.executable, "-m", "mdmkit", *map(str, words)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, canary.exists()


def test_none_runs_the_core_alone(planted: Path, tmp_path: Path) -> None:
    assert mdmkit(planted, tmp_path, None, "check", "quickstart_bell") == (0, True)
    assert mdmkit(planted, tmp_path, "none", "check", "quickstart_bell") == (0, False)
    assert mdmkit(planted, tmp_path, "none", "hello") == (2, False)


def test_a_recipe_imports_nothing(planted: Path, tmp_path: Path) -> None:
    """Not by the name of a module, nor what lies beside it."""
    for name in ("mdmkit_hooks", "sitecustomize", "conftest", "tiny"):
        (tmp_path / f"{name}.py").write_text(PLUGIN)
    (tmp_path / "tiny.toml").write_text(
        'extends = "quickstart_bell"\n'
        '[denoiser]\nuse = "planted"\n'
        '[evaluators.x]\nuse = "planted:Thing"\n'
        '[trackers.x]\nuse = "tiny"\n'
    )
    assert mdmkit(planted, tmp_path, "none", "check", "tiny.toml") == (2, False)
