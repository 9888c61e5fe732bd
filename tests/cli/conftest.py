from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import write_tiny_recipe
from .commands import mdmkit, run_directory


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the tiny recipe, and with caches and runs that a module's tests share."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDMKIT_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MDMKIT_RUNS_DIR", str(folder / "runs"))
        patch.setenv("MDMKIT_PLUGINS", "none")
        yield folder


@pytest.fixture(scope="module")
def recipe(home: Path) -> Path:
    """The tiny recipe's file."""
    return write_tiny_recipe(home / "tiny")


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """The directory of a finished run of it; tests leave it as it is."""
    return run_directory(mdmkit("run", recipe))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """``write(name, text)`` makes a file in the working directory."""
    monkeypatch.chdir(tmp_path)

    def written(name: str, text: str) -> str:
        Path(name).write_text(text)
        return name

    return written
