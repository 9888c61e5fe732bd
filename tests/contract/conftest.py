from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from attrs import frozen

import mdmkit


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Everything here is small: threads would only get in each other's way."""
    torch.set_num_threads(1)


# By name, and with the entry point blocked: the same whether or not mdmkit's own is installed.
PLUGIN = ("-p", "no:mdmkit", "-p", "mdmkit.testing.pytest_plugin")
STRICT = ("-W", "error", "--strict-config", "--strict-markers", "--import-mode=importlib")


@frozen
class Outcome:
    """What pytest did: status, output, and each test's failure ("" if it passed)."""

    status: int
    output: str
    tests: dict[str, str]


def run_pytest(
    folder: Path, *arguments: str, plugin: Path | None = None, **environ: str
) -> Outcome:
    """Run pytest in a process of its own in `folder`, with the distribution in `plugin`."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    paths = [Path(mdmkit.__file__).parents[1], *([plugin] if plugin else [])]
    environ = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200", **environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, *STRICT, "-p", "no:cacheprovider",
         f"--rootdir={folder}", f"--junitxml={report}", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **environ},
    )  # fmt: skip
    tests = {}
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            place = "::".join(filter(None, (case.get("classname"), case.get("name"))))
            tests[place] = "".join(part.text or "" for part in case if part.tag != "skipped")
    return Outcome(done.returncode, done.stdout + done.stderr, tests)


@pytest.fixture(scope="session", name="run_pytest")
def run_pytest_fixture() -> Callable[..., Outcome]:
    return run_pytest
