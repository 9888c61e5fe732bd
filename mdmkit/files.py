"""Writing files so that a crash leaves either the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mdmkit.errors import CheckpointError

GO_ON = "make room, then start the same command again: it goes on from the last checkpoint"
"""The remedy where a run cannot write."""


def write_atomic(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Write `content` to `path` through a temporary file in the same directory.

    Args:
        path: the file to create or replace; its directory must exist.
        content: bytes, text (written as UTF-8), or a function that writes to an open file.

    Raises:
        OSError: where it cannot be written; an old file at `path` is then left as it was.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".tmp-{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_directory(path.parent)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill in the body, which is then `target`: it is there as a whole or not at all.

    Files get the permissions that new ones have, whoever made them.

    Args:
        target: the folder to make, which may be there if it is empty; so are those above it.

    Raises:
        OSError: where it cannot be written; nothing is left of it then, nor after any other error.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{target.name}-", dir=target.parent))
    try:
        yield temporary
        for path in (temporary, *temporary.rglob("*")):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
            sync_file(path)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(target.parent)


@contextlib.contextmanager
def explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn a failure to write `path` (a full disk, say) into words.

    Args:
        path: what is written in the body.
        remedy: what to do then; it ends the message.

    Raises:
        CheckpointError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); {remedy}"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused, since JSON has none."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def sync_file(path: Path) -> None:
    """Have the content of `path` on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Have the names in directory `path` (creations, renames) on the disk before going on."""
    sync_file(path)


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
