"""A file of lines that another process writes, read as it grows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen

_CHUNK = 1 << 20
_LONGEST = 1 << 20
"""Bytes of a line; those of a metrics file have some hundreds."""


@frozen(kw_only=True)
class News:
    """What has been added since the last look.

    Attributes:
        lines: whole lines, without their newline.
        anew: whether the file was cut or replaced, so that these are all of its lines.
    """

    lines: list[bytes]
    anew: bool = False


class Tail:
    """Reads whole lines from where it stopped; a torn last one waits for its end.

    The file is opened for reading alone and never locked. It may not be there yet, and it may be
    cut or replaced, as a run that goes on does with its metrics: then it is read from its begin.
    """

    def __init__(self, path: Path) -> None:
        """Follow `path`, from its begin."""
        self._path = path
        self._descriptor: int | None = None
        self._offset = 0
        self._torn = b""

    def __enter__(self) -> Self:
        """Nothing is opened before the first look."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; a later look begins anew."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._offset, self._torn = None, 0, b""

    def look(self) -> News:
        """What is there that was not there before.

        Raises:
            OSError: where it cannot be read, or is no file.
        """
        anew = self._descriptor is not None and not self._is_the_same(self._descriptor)
        if anew:
            self.close()
        return News(lines=list(self.lines()), anew=anew)

    def lines(self) -> Iterator[bytes]:
        """The same lines one after the other, for who need not have them all at once.

        Raises:
            OSError: as `look` does.
        """
        if self._descriptor is None:
            self._descriptor = _opened(self._path)
        if self._descriptor is not None:
            yield from self._new_lines(self._descriptor)

    def _new_lines(self, descriptor: int) -> Iterator[bytes]:
        while chunk := os.pread(descriptor, _CHUNK, self._offset):
            self._offset += len(chunk)
            *whole, self._torn = (self._torn + chunk).split(b"\n")
            yield from whole
            if len(self._torn) > _LONGEST:  # no line of ours: what follows is read as another
                self._torn = b""

    def _is_the_same(self, descriptor: int) -> bool:
        """Whether what is open is still the file at the path, and not shorter than before."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(descriptor)  # while it is open, no other file gets its number
        same = (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
        return same and here.st_size >= self._offset


def _opened(path: Path) -> int | None:
    """A descriptor for reading, or None where there is no file yet."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no file")
    return descriptor
