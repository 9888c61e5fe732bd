"""Plain data out of files that may come from anyone.

JSON and TOML execute nothing, but a file may be without end (a device, a pipe), larger than
memory, nested deeper than the interpreter's stack, or hold what cannot be written again (NaN, half
a surrogate pair). All of that is refused here, so that whoever reads meets OSError and ValueError
alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MIB = 1 << 20
LARGEST_TOML = MIB // 4
"""Bytes; the recipes and suites that are shipped have a few thousand."""

LARGEST_JSON = 64 * MIB
"""Bytes."""

DEEPEST = 32
"""Tables and arrays inside each other."""

MOST_DOTS = 500
"""In a line of TOML, those of numbers left out. ``tomllib`` spends the square of their number on a
dotted key."""

_LONGEST_INTEGER = 4300  # digits; what the interpreter itself reads and writes
_NUMBER = re.compile(r"(?<!\d)\d++\.\d++")


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file.

    Args:
        path: links are followed.
        largest: bytes that it may have.

    Raises:
        OSError: where it cannot be read or is a folder, a device or a pipe.
        ValueError: where it is larger, or `path` is no path at all.
    """
    with _regular(path, largest) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes; expected that many at most")
    return content


def read_lines(path: Path, largest: int) -> Iterator[bytes]:
    """The lines of a regular file with their newlines, one at a time; a torn last one has none.

    Args:
        path, largest: as for `read_bytes`.

    Raises:
        OSError, ValueError: as `read_bytes` does.
    """
    with _regular(path, largest) as file:
        yield from file


@contextlib.contextmanager
def _regular(path: Path, largest: int) -> Iterator[BinaryIO]:
    # Opened in the usual way, a pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if status.st_size > largest:
            raise ValueError(f"it has {status.st_size:,} bytes; expected {largest:,} at most")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_json(path: Path, largest: int = LARGEST_JSON) -> Any:
    """The value in a JSON file.

    Raises:
        OSError, ValueError: as `read_bytes` and `parse_json` do.
    """
    return parse_json(read_bytes(path, largest))


def parse_json(text: str | bytes) -> Any:
    """The value that `text` stands for.

    Raises:
        ValueError: where it is not JSON in UTF-8, nested too deep, or has a number that is not
            finite or of thousands of digits.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    _check(value)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """The tables that `text` stands for.

    Raises:
        ValueError: where it is not TOML, or nested too deep.
    """
    if len(text) > LARGEST_TOML:
        raise ValueError(f"it has {len(text):,} characters; expected {LARGEST_TOML:,} at most")
    if any(line.count(".") > MOST_DOTS for line in _NUMBER.sub("", text).split("\n")):
        raise ValueError(f"a line has more than {MOST_DOTS} dots outside of numbers")
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    _check(tables)
    return tables


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is too large for a number")
    return number


def _check(value: Any) -> None:
    """Refuse what is nested too deep, and scalars that cannot be written again."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise _too_deep()
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                inner += node.keys()
                inner += node.values()
            elif isinstance(node, list):
                inner += node
            elif isinstance(node, str):
                node.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair
            elif isinstance(node, int) and node.bit_length() > 3 * _LONGEST_INTEGER:
                raise ValueError("an integer has thousands of digits")
        level, depth = inner, depth + 1


def _too_deep() -> ValueError:
    return ValueError(f"nested too deep; expected {DEEPEST} tables and arrays inside each other")
