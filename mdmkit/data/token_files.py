"""The files of a token store: their names and types, and how a store is opened and checked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen

from mdmkit.data.hashed_file import Content, DamagedError, verify
from mdmkit.files import write_json
from mdmkit.plain_files import read_json

TOKENS = "tokens.bin"
OFFSETS = "offsets.bin"
UTF8_BYTES = "utf8_bytes.bin"
FILES = (TOKENS, OFFSETS, UTF8_BYTES)
MANIFEST = "manifest.json"
PROGRESS = "progress.json"  # in a folder that is being filled
VERIFIED = "verified.json"
_SEAL = "sha256"

_ALWAYS_HASHED = 1 << 28  # bytes; so much takes about a tenth of a second
_BELIEVED_SECONDS = 7 * 24 * 3600.0


@frozen(kw_only=True)
class Counts:
    """How much text a store holds.

    Attributes:
        documents: those that are in it, with at least one token, of their own or around them.
        tokens: all ids, the special ones around documents included.
        utf8_bytes: of the documents' text.
        without_tokens: documents of which the tokenizer made nothing, and around which there is
            nothing, either; they are left out.
        empty: documents that have only what is around them.
    """

    documents: int
    tokens: int
    utf8_bytes: int
    without_tokens: int
    empty: int = 0


@frozen(kw_only=True)
class Filled:
    """What the files of a store, or of one that is begun, hold: the manifest.

    Attributes:
        made_from: all that the content depends on.
        about: what that is, in words for people; the content does not depend on it.
        dtype: of the ids.
        counts: how much it is.
        files: the content of each file.
    """

    made_from: Mapping[str, Any]
    about: Mapping[str, Any]
    dtype: str
    counts: Counts
    files: Mapping[str, Content]

    def write(self, path: Path) -> None:
        """Write it to `path` as JSON."""
        plain = asdict(self)
        write_json(path, {**plain, _SEAL: _sealed(plain)})

    @classmethod
    def read(cls, path: Path) -> Filled:
        """What `write` wrote.

        Raises:
            DamagedError: where it is missing or something else.
        """
        try:
            value = read_json(path)
            if value.pop(_SEAL) != _sealed(value):
                raise DamagedError(f"{path.name}: its content has changed")
            files = {name: Content.from_json(value["files"][name]) for name in FILES}
            if value["dtype"] not in DTYPES:
                raise DamagedError(f"{path.name}: its ids have an unknown type")
            return cls(
                made_from=dict(value["made_from"]),
                about=dict(value["about"]),
                dtype=value["dtype"],
                counts=Counts(**value["counts"]),
                files=files,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{path.name}: {type(error).__name__}: {error}") from error

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(content.size for content in self.files.values())


DTYPES = ("|u1", "<u2", "<u4", "<u8")
"""What `token_dtype` calls its types."""


def _sealed(plain: Mapping[str, Any]) -> str:
    """sha256 (hex) of plain data: a manifest that was damaged or edited is told by it."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned little-endian type that holds the ids below `vocab_size`.

    >>> token_dtype(256).itemsize, token_dtype(30522).itemsize, token_dtype(70000).itemsize
    (1, 2, 4)
    """
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def checked(folder: Path, made_from: Mapping[str, Any], *, thorough: bool = False) -> Filled:
    """The manifest of a store, once its files are found to be what it says.

    Sizes are always compared. All bytes are hashed, too, unless the store is large and was hashed
    less than a week ago, and no file has been touched since by the system's own account (size,
    times of content and of inode, inode number). A byte that flips below the file system, where
    no time changes, is therefore noticed within a week.

    Args:
        folder: of the store.
        made_from: what it is expected to be made from.
        thorough: hash in any case.

    Raises:
        FileNotFoundError: where there is no such folder.
        DamagedError: where it is not what it should be.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    filled = Filled.read(folder / MANIFEST)
    if filled.made_from != made_from:
        raise DamagedError("its manifest is of other tokens")
    try:
        for name, content in filled.files.items():
            size = (folder / name).stat().st_size
            if size != content.size:
                raise DamagedError(f"{name} has {size} bytes, expected {content.size}")
        large = filled.size > _ALWAYS_HASHED
        if thorough or not large or not _believed(folder):
            before = _seen(folder)
            for name, content in filled.files.items():
                verify(folder / name, content)
            if large:
                with suppress(OSError):  # of a folder that is only read, all is hashed each time
                    write_json(folder / VERIFIED, {"time": time.time(), "files": before})
    except OSError as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    return filled


def _believed(folder: Path) -> bool:
    """Whether the files were hashed not long ago and are untouched since."""
    try:
        stamp = read_json(folder / VERIFIED)
        age = time.time() - stamp["time"]
        return bool(0 <= age < _BELIEVED_SECONDS and stamp["files"] == _seen(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _seen(folder: Path) -> dict[str, list[int]]:
    """What the file system says of the files; a write changes it."""
    found = {name: (folder / name).stat() for name in FILES}
    return {
        name: [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        for name, status in found.items()
    }
