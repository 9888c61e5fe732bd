"""The lock of a run directory: held by the process that trains there, gone when it is."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import IO

LOCK = ".lock"
_TRIES = 10
_BETWEEN = 0.02
"""Seconds. Whoever only looks has the lock for some microseconds: see `is_held`."""


def take(lock: IO[str]) -> None:
    """Lock the open lock file of a run; closing it, or the end of the process, unlocks it.

    Raises:
        OSError: where another process has it.
    """
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if left == 0:
                raise
            time.sleep(_BETWEEN)
        else:
            return


def is_held(run_dir: Path) -> bool:
    """Whether a process trains in `run_dir` at this moment; nothing is written.

    Raises:
        OSError: where the lock file is there and cannot be opened.
    """
    try:
        lock = os.open(run_dir / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(lock)
    return False
