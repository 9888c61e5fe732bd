from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .synthetic import make_tokenizer, write_run


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer of bytes, which every synthetic run shares."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return folder


@pytest.fixture
def make_run(tmp_path: Path, tokenizer: Path) -> Callable[..., Path]:
    """``make_run(name, …)``: a synthetic run in the folder ``runs``."""

    def make(name: str, **options: Any) -> Path:
        return write_run(tmp_path / "runs", name, **{"tokenizer": tokenizer, **options})

    return make
