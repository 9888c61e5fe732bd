"""Files of text and tables: what kind they are, where they are, and their bytes unpacked."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, Protocol

from mdmkit.errors import DataError
from mdmkit.files import sha256_file

_PLAIN = (".txt", ".jsonl", ".csv", ".tsv")
_TABLES = (".parquet", ".arrow")  # compressed inside already
_BROKEN_ARCHIVE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


class File(Protocol):
    """A file that can be opened for reading: a `Path`, or one that stays on the hub."""

    @property
    def name(self) -> str:
        """Its last component, which says what kind it is."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """Its bytes from the start; they can be read in any order."""


def kind_of(name: str | PurePosixPath | Path) -> str | None:
    """The ending that says how a file is read, also under a compression; None where none does.

    >>> kind_of("train.jsonl.gz"), kind_of("train.parquet"), kind_of("notes.md")
    ('.jsonl', '.parquet', None)
    """
    path = PurePosixPath(str(name))
    if path.suffix in _OPENERS:
        kind = PurePosixPath(path.stem).suffix
        return kind if kind in _PLAIN else None
    return path.suffix if path.suffix in (*_PLAIN, *_TABLES) else None


def known_endings() -> str:
    """The endings that can be read, for a message."""
    return f"{', '.join((*_TABLES, *_PLAIN))}, the last four also with {', '.join(_OPENERS)}"


def require_kind(file: File, *, option: str = "") -> str:
    """The kind of `file`.

    Args:
        file: only its name is looked at.
        option: what it was named with, for the message.

    Raises:
        DataError: where its name does not say.
    """
    kind = kind_of(file.name)
    if kind is None:
        where = f"{option}: {file}" if option else str(file)
        raise DataError(
            f"{where}: cannot tell what this is; expected a name that ends in {known_endings()}"
        )
    return kind


def expand(pattern: str, *, option: str) -> list[Path]:
    """The files that a file name, folder or glob stands for, sorted by path.

    Args:
        pattern: relative to the working directory; ``~`` is the home directory. Of a folder, all
            files with a known suffix are taken, at any depth; hidden ones are not.
        option: the option it comes from, for the message.

    Raises:
        DataError: where there is no such file.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [path / name for name in folder_files(path) if kind_of(name)]
        expected = f"a folder with files that end in {known_endings()}"
    else:
        found = [Path(f) for f in glob.glob(str(path), recursive=True) if Path(f).is_file()]  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
        expected = "an existing file, a folder, or a pattern that matches files"
    if not found:
        raise DataError(f"{option}: nothing to read at {str(path)!r}; expected {expected}")
    return sorted(found, key=lambda f: f.as_posix())


def folder_files(folder: Path) -> list[str]:
    """All files under `folder`, relative to it, with forward slashes; hidden ones left out."""
    found: list[str] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(here).relative_to(folder)
        found += [
            (inside / name).as_posix()
            for name in names
            if not name.startswith(".") and Path(here, name).is_file()
        ]
    return found


def names_of(files: Sequence[File]) -> str:
    """The first few of `files`, for a message."""
    more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return ", ".join(str(f) for f in files[:3]) + more


def contents_fingerprint(files: Iterable[Path], **options: str) -> str:
    """sha256 (hex) over the contents of `files`, in order, and what decides how they are read.

    The endings of their names are part of that: the same bytes as .txt and as .jsonl are not the
    same documents.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for path in files:
        try:
            ending = f"{kind_of(path.name)} {path.suffix if path.suffix in _OPENERS else ''}"
            digest.update(f"{ending} {sha256_file(path)}\n".encode())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


@contextmanager
def reading(file: File) -> Iterator[None]:
    """Turn what goes wrong while `file` is read into words.

    Raises:
        DataError: instead of an error of the system or of a compression.
    """
    try:
        yield
    except _BROKEN_ARCHIVE as error:
        raise DataError(
            f"{file}: the compressed file is damaged or cut short ({error}); get it again"
        ) from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error


@contextmanager
def unpacked(file: File) -> Iterator[IO[bytes]]:
    """The bytes of `file`, with its compression taken off."""
    with file.open("rb") as packed:
        opener = _OPENERS.get(PurePosixPath(file.name).suffix)
        if opener is None:
            yield packed
        else:
            with opener(packed) as plain:
                yield plain


def lines(file: File) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, without a byte order mark.

    Raises:
        DataError: naming the byte that is not UTF-8.
    """
    offset = 0
    with unpacked(file) as content:
        for number, line in enumerate(content):
            # A byte order mark is an encoding's signature, not text.
            text = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
            yield decode(text, file, offset + len(line) - len(text))
            offset += len(line)


def decode(content: bytes, file: File, offset: int = 0) -> str:
    """`content`, which stands at byte `offset` of `file`, as text.

    Raises:
        DataError: naming the byte that is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: byte {offset + error.start} (0x{content[error.start]:02x}) is not UTF-8; "
            "expected UTF-8 text: convert it, for example with `iconv -t utf-8`"
        ) from error


def _zstd(packed: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd"))


_OPENERS: Mapping[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
    ".zst": _zstd,
}
