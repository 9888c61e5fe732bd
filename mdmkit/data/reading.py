"""Documents out of local files: plain text, JSON lines and parquet, in constant memory.

Every problem becomes a `DataError` that says where it is (file, and byte, line or row), what was
found, what was expected and what to do.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from attrs import frozen

from mdmkit.errors import DataError
from mdmkit.files import sha256_file
from mdmkit.suggest import did_you_mean

Documents = Literal["file", "blank_line", "line"]

_BROKEN_ARCHIVE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_MARK = b"\xef\xbb\xbf"  # a byte order mark is an encoding's signature, not text


@frozen(kw_only=True)
class Reading:
    """How files are turned into documents.

    Attributes:
        documents: what one document of a text file is.
        column: the key or column of the text in JSON lines and parquet.
    """

    documents: Documents = "file"
    column: str = "text"


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
        found = [f for f in path.rglob("*") if f.is_file() and kind_of(f) and not _hidden(f, path)]
        expected = f"a folder with files that end in {', '.join(suffixes())}"
    else:
        found = [Path(f) for f in glob.glob(str(path), recursive=True) if Path(f).is_file()]  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
        expected = "an existing file, a folder, or a pattern that matches files"
    if not found:
        raise DataError(f"{option}: nothing to read at {str(path)!r}; expected {expected}")
    return sorted(found, key=lambda f: f.as_posix())


def kind_of(path: Path) -> str | None:
    """``.txt``, ``.jsonl`` or ``.parquet``, also under a compression; None for anything else."""
    name = path.name
    if path.suffix in _OPENERS:
        name = path.stem
    kind = Path(name).suffix
    plain_only = kind == ".parquet" and path.suffix in _OPENERS
    return kind if kind in _READERS and not plain_only else None


def suffixes() -> list[str]:
    """The endings that can be read."""
    return [*_READERS, *(f"{k}{c}" for k in (".txt", ".jsonl") for c in _OPENERS)]


def read_documents(files: Sequence[Path], reading: Reading) -> Iterator[str]:
    """The documents of `files`, in order; those that are empty or white space are skipped.

    Raises:
        DataError: a file of an unknown kind, one that cannot be read or decoded, or no document
            at all.
    """
    found = False
    for path in files:
        kind = kind_of(path)
        if kind is None:
            raise DataError(
                f"{path}: cannot tell what this is; expected a name that ends in "
                f"{', '.join(suffixes())}"
            )
        try:
            for document in _READERS[kind](path, reading):
                if document.strip():
                    found = True
                    yield document
        except _BROKEN_ARCHIVE as error:
            raise DataError(
                f"{path}: the compressed file is damaged or cut short ({error}); get it again"
            ) from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found:
        raise DataError(
            f"{_names(files)}: no document in it; expected text that is not only white space"
        )


def contents_fingerprint(files: Iterable[Path], **options: str) -> str:
    """sha256 (hex) over the contents of `files`, in order, and what decides how they are read."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for path in files:
        try:
            digest.update(sha256_file(path).encode())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _names(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more files" if len(files) > 3 else ""
    return ", ".join(str(f) for f in files[:3]) + more


# --- plain text ----------------------------------------------------------------------------


def _open(path: Path) -> IO[bytes]:
    opener = _OPENERS.get(path.suffix)
    return path.open("rb") if opener is None else opener(path)


def _text(path: Path, reading: Reading) -> Iterator[str]:
    return _TEXT_READERS[reading.documents](path)


def _whole(path: Path) -> Iterator[str]:
    with _open(path) as file:
        yield _decode(file.read().removeprefix(_MARK), path, 0)


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    with _open(path) as file:
        for number, line in enumerate(file):
            content = line.removeprefix(_MARK) if number == 0 else line
            yield _decode(content, path, offset + len(line) - len(content)).rstrip("\r\n")
            offset += len(line)


def _paragraphs(path: Path) -> Iterator[str]:
    paragraph: list[str] = []
    for line in _lines(path):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    yield "\n".join(paragraph)


def _decode(content: bytes, path: Path, offset: int) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {offset + error.start} (0x{content[error.start]:02x}) is not UTF-8; "
            "expected UTF-8 text: convert it, for example with `iconv -t utf-8`"
        ) from error


# --- JSON lines and parquet ----------------------------------------------------------------


def _jsonl(path: Path, reading: Reading) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield _json_text(line, reading.column, f"{path}: line {number}")


def _json_text(line: str, column: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); expected one JSON object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    if column not in row:
        raise DataError(f"{where}: {no_column(column, row)}")
    text = row[column]
    if not isinstance(text, str):
        raise DataError(
            f"{where}: expected a string under {column!r}, got {type(text).__name__}; "
            "set data.corpus.column to the key that holds the text"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: half of a surrogate pair at character {error.start} of {column!r}; "
            "expected whole Unicode characters"
        ) from error
    return text


def no_column(column: str, columns: Iterable[str]) -> str:
    """Say that there is no such column, which there are, and which may have been meant."""
    names = list(columns)
    return (
        f'no column "{column}"{did_you_mean(column, names)} '
        f"(there are: {', '.join(names) or 'none'}); set data.corpus.column"
    )


def _parquet(path: Path, reading: Reading) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column, row = reading.column, 0
    try:
        # Column names with dots would be read as paths into nested columns, so look first.
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if column not in schema.names:
                raise DataError(f"{path}: {no_column(column, schema.names)}")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise DataError(f"{path}: column {column!r} is {kind}; expected strings")
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                for value in batch.column(0):
                    yield value.as_py() or ""  # a null is an empty document
                    row += 1
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: row {row}: byte {error.start} of {column!r} is not UTF-8; expected UTF-8 text"
        ) from error
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: not a whole parquet file ({error}); get it again, or name it after its kind"
        ) from error


_TEXT_READERS: Mapping[Documents, Callable[[Path], Iterator[str]]] = {
    "file": _whole,
    "blank_line": _paragraphs,
    "line": _lines,
}
_READERS: Mapping[str, Callable[[Path, Reading], Iterator[str]]] = {
    ".txt": _text,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
_OPENERS: Mapping[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
