"""Files that are only appended to, and are known by the sha256 of each of their pieces.

Pieces can be hashed on several threads, and a file that was begun can be checked and gone on with
without a hash of all of it in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen
from numpy.typing import NDArray

from mdmkit.data.cache import unwritable

PIECE = 1 << 24
"""Bytes of a piece; the last one of a file may be shorter."""

_READ = 1 << 20  # bytes at a time, so that memory stays small
_THREADS = 8  # more than this reads no disk faster


class DamagedError(Exception):
    """What is there is not what was written; the text says what differs."""


@frozen(kw_only=True)
class Content:
    """What a file holds, or held up to some size.

    Attributes:
        size: in bytes.
        sha256: of each piece, in hex.
    """

    size: int
    sha256: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Content:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError: where it is something else.
        """
        if type(value["size"]) is not int:
            raise TypeError("the size of a file is no whole number")
        return cls(size=value["size"], sha256=tuple(value["sha256"]))


def verify(path: Path, content: Content) -> None:
    """Hash the first ``content.size`` bytes of `path`, on several threads.

    Raises:
        DamagedError: where the file is shorter, or differs.
        OSError: where it cannot be read.
    """
    starts = range(0, content.size, PIECE)
    if len(starts) != len(content.sha256):
        raise DamagedError(f"the list of hashes of {path.name} is not whole")
    if path.stat().st_size < content.size:
        raise DamagedError(f"{path.name} has {path.stat().st_size} bytes, expected {content.size}")

    def hashed(start: int) -> str:
        return _hash(path, start, min(start + PIECE, content.size)).hexdigest()

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for start, found, expected in zip(
            starts, pool.map(hashed, starts), content.sha256, strict=True
        ):
            if found != expected:
                raise DamagedError(
                    f"the content of {path.name} has changed, in the {PIECE} bytes from {start} on"
                )


class HashedFile:
    """A file that is only appended to; errors name the way out."""

    def __init__(self, path: Path, content: Content | None = None) -> None:
        """Begin `path` anew, or go on after `content`, cutting off what is beyond it.

        Raises:
            DamagedError: where `content` is not what the file holds.
            DataError: where it cannot be written.
        """
        self.path = path
        self.size = 0
        self._done: list[str] = []  # hashes of whole pieces
        self._piece = hashlib.sha256()  # of the piece that is being written
        if content is not None:
            verify(path, content)
            self.size = content.size
            whole = content.size // PIECE
            self._done = list(content.sha256[:whole])
            self._piece = _hash(path, whole * PIECE, content.size)
        try:
            self._file = path.open("wb" if content is None else "r+b")
            if content is not None:
                self._file.truncate(content.size)
                self._file.seek(content.size)
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, array: NDArray[Any]) -> None:
        """Append the bytes of `array`."""
        data = np.ascontiguousarray(array).view(np.uint8).data
        try:
            self._file.write(data)
        except OSError as error:
            raise unwritable(self.path, error) from error
        while len(data):
            part = data[: PIECE - self.size % PIECE]
            self._piece.update(part)
            self.size += len(part)
            data = data[len(part) :]
            if self.size % PIECE == 0:
                self._done.append(self._piece.hexdigest())
                self._piece = hashlib.sha256()

    def sync(self) -> Content:
        """Have everything on the disk, and say what it is."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        begun = [self._piece.hexdigest()] if self.size % PIECE else []
        return Content(size=self.size, sha256=(*self._done, *begun))

    def close(self) -> None:
        """Let go of the file."""
        try:
            self._file.close()
        except OSError as error:
            raise unwritable(self.path, error) from error


def _hash(path: Path, start: int, stop: int) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while start < stop:
            data = file.read(min(_READ, stop - start))
            if not data:
                raise DamagedError(f"{path.name} ends before byte {stop}")
            digest.update(data)
            start += len(data)
    return digest
