"""Has the system read parts of a mapped file before they are used, many at a time.

A page of a mapped file that is not in memory is read when it is touched, one after the other, and
by default with much around it that blocks in a random order do not need. Asking for all pages of a
batch first keeps the disk busy with hundreds of requests at once. Measured on one disk, with a file
beyond what memory holds, in tokens a second: blocks of 128 tokens .12M as they are touched, 1.7M
without the pages around them, 5.5M asked for first; blocks of 1024 tokens .7M, 9.3M and 40M.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXTENT = 1 << 18  # bytes that are read together of a file that will be in memory as a whole


class MappedFile:
    """A file of numbers, mapped into memory.

    Attributes:
        array: ``[n]``, all of it, read-only.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], *, memory: int | None = None) -> None:
        """Map `path`.

        Args:
            path: a file that is not empty.
            dtype: of the numbers.
            memory: bytes of this machine's memory, if not what the system says.
        """
        descriptor = os.open(path, os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self.array: NDArray[Any] = np.frombuffer(mapping, dtype=dtype)
        # A file that memory holds twice over is asked for once, in large extents; of a larger one
        # pages leave memory again, so each block is asked for each time.
        fits = 2 * len(mapping) <= (usable_memory() if memory is None else memory)
        self._asked = np.zeros(-(-len(mapping) // _EXTENT), dtype=bool) if fits else None
        if not fits and hasattr(mmap, "MADV_RANDOM"):
            mapping.madvise(mmap.MADV_RANDOM)

    def expect(self, starts: NDArray[np.int64], width: int) -> None:
        """Ranges of `width` numbers from ``starts [n]`` on will be read soon."""
        if not hasattr(os, "posix_fadvise"):
            return
        item = self.array.itemsize
        first, size = starts * item, width * item
        if self._asked is not None:
            if self._asked.all():
                return
            # A range that is longer than an extent is read in order, which the system foresees.
            last = np.minimum(first + size, self.array.nbytes) - 1  # a padded row ends early
            numbers = np.unique(np.concatenate([first, last]) // _EXTENT)
            numbers = numbers[~self._asked[numbers]]
            self._asked[numbers] = True
            first, size = numbers * _EXTENT, _EXTENT
        for start in first.tolist():
            os.posix_fadvise(self._descriptor, start, size, os.POSIX_FADV_WILLNEED)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:  # no such group, or another system
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
