"""The folder where what was made from text is kept: token stores and trained tokenizers."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

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


@contextlib.contextmanager
def locked(path: Path, notify: Notify, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`; one that a killed holder left behind locks nothing.

    The system itself lets go of it when a process ends, however it ends.

    Args:
        path: its folder must exist.
        notify: is told `waiting` if another process holds it.
        waiting: what to say then.

    Raises:
        DataError: where the file system knows no locks, or cannot be written.
    """
    try:
        file = _held(path, notify, waiting)
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock file `path`."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _held(path: Path, notify: Notify, waiting: str) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                notify(waiting)
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it has removed the file; the lock that counts is the one on the name.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()
