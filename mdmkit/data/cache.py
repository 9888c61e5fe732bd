"""The folder where what was made from text is kept: token stores and trained tokenizers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdmkit.errors import DataError

Notify = Callable[[str], None]
"""Takes a line that the user should see."""


def ignore(message: str) -> None:
    """Say nothing: the `Notify` of a caller that has nobody to tell."""


def cache_root(cache_dir: Path | None = None) -> Path:
    """`cache_dir`, else ``MDMKIT_CACHE_DIR``, else ``~/.cache/mdmkit``."""
    if cache_dir is not None:
        return cache_dir
    named = os.environ.get("MDMKIT_CACHE_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "mdmkit"


def cache_key(facts: Mapping[str, Any]) -> str:
    """A name for what follows from `facts` (plain JSON): 32 hex digits of its sha256."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_folder(folder: Path) -> Path:
    """Create `folder` where it is missing.

    Raises:
        DataError: where that is not possible, with what to set.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def unwritable(path: Path, error: OSError) -> DataError:
    """The error for a cache that cannot be written."""
    return DataError(
        f"{path}: cannot write here: {error.strerror or error}; free some space, or set "
        "MDMKIT_CACHE_DIR to a folder with room"
    )
