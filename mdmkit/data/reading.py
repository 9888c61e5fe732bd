"""Documents out of files: plain text, JSON lines, CSV, parquet and Arrow.

A document is in memory as a whole, and its tokens with it (some hundred bytes a character), so
that large files should hold many: lines or paragraphs. Nothing else grows with the text.

Every problem becomes a `DataError` that says where it is (file, and byte, line or row), what was
found, what was expected and what to do.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Literal

from attrs import frozen

from mdmkit.data.opening import File, decode, lines, names_of, reading, require_kind, unpacked
from mdmkit.data.slices import SplitSlice
from mdmkit.data.tables import Columns, row_count, rows_of
from mdmkit.errors import DataError

Documents = Literal["file", "blank_line", "line"]

_COLUMN = "data.corpus.column"


@frozen(kw_only=True)
class Reading:
    """How files are turned into documents.

    Attributes:
        documents: what one document of a text file is.
        column: the key or column of the text in files of rows.
        keep_empty: whether rows that are empty or only white space are documents too.
        rows: the rows that are read, counted over all files, empty ones too; None for all.
        limit: how many documents at most; 0 for all.
    """

    documents: Documents = "file"
    column: str = "text"
    keep_empty: bool = False
    rows: SplitSlice | None = None
    limit: int = 0


def read_documents(files: Sequence[File], how: Reading) -> Iterator[str]:
    """The documents of `files`, in order.

    Raises:
        DataError: a file of an unknown kind, one that cannot be read or decoded, no document at
            all, or fewer rows than `how` asks for.
    """
    texts = _sliced(files, how) if how.rows else _all(files, how)
    found = 0
    for document in texts:
        if how.keep_empty or document.strip():
            found += 1
            yield document
            if found == how.limit:
                return
    if not found:
        raise DataError(
            f"{names_of(files)}: no document in it; expected text that is not only white space"
        )


def _all(files: Sequence[File], how: Reading) -> Iterator[str]:
    for file in files:
        yield from documents_of(file, how)


def _sliced(files: Sequence[File], how: Reading) -> Iterator[str]:
    """The rows of the slice; files that end before it are not unpacked where that can be."""
    assert how.rows is not None
    count_of = cache(lambda number: _count(files[number], how))
    start, stop = how.rows.bounds(lambda: sum(count_of(n) for n in range(len(files))))
    place = 0
    for number, file in enumerate(files):
        first = 0
        if place < start and require_kind(file) == ".parquet":
            if place + count_of(number) <= start:
                place += count_of(number)
                continue
            first = start - place
        place += first
        for document in documents_of(file, how, first=first):
            if stop is not None and place >= stop:
                return
            if place >= start:
                yield document
            place += 1
    if place < max(start, stop or 0):
        raise DataError(
            f"{how.rows.name}{how.rows.rows}: there are only {place} rows in {names_of(files)}; "
            f"{how.rows.name} alone stands for all of them"
        )


def _count(file: File, how: Reading) -> int:
    """The number of rows, or of documents of a text file."""
    if require_kind(file) == ".txt":
        return sum(1 for _ in documents_of(file, how))
    return row_count(file)


def documents_of(file: File, how: Reading, *, first: int = 0) -> Iterator[str]:
    """All documents of one file from number `first` on, empty ones too.

    Raises:
        DataError: see `read_documents`.
    """
    if require_kind(file) == ".txt":
        with reading(file):
            for number, text in enumerate(_TEXT_READERS[how.documents](file)):
                if number >= first:
                    yield text
        return
    columns = Columns(names=(how.column,), option=_COLUMN)
    for row in rows_of(file, columns=columns, first=first):
        yield row.text(how.column, option=_COLUMN)


def _whole(file: File) -> Iterator[str]:
    with unpacked(file) as content:
        yield decode(content.read().removeprefix(codecs.BOM_UTF8), file)


def _lines(file: File) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines(file))


def _paragraphs(file: File) -> Iterator[str]:
    paragraph: list[str] = []
    for line in _lines(file):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


_TEXT_READERS: Mapping[Documents, Callable[[File], Iterator[str]]] = {
    "file": _whole,
    "blank_line": _paragraphs,
    "line": _lines,
}
