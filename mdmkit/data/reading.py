"""Documents out of files: plain text, JSON lines, CSV, parquet and Arrow, in constant memory.

Every problem becomes a `DataError` that says where it is (file, and byte, line or row), what was
found, what was expected and what to do.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import frozen

from mdmkit.data.opening import File, decode, lines, names_of, reading, require_kind, unpacked
from mdmkit.data.tables import Columns, rows_of
from mdmkit.errors import DataError

Documents = Literal["file", "blank_line", "line"]

_COLUMN = "data.corpus.column"


@frozen(kw_only=True)
class Reading:
    """How files are turned into documents.

    Attributes:
        documents: what one document of a text file is.
        column: the key or column of the text in files of rows.
    """

    documents: Documents = "file"
    column: str = "text"


def read_documents(files: Sequence[File], how: Reading) -> Iterator[str]:
    """The documents of `files`, in order; those that are empty or white space are skipped.

    Raises:
        DataError: a file of an unknown kind, one that cannot be read or decoded, or no document
            at all.
    """
    found = False
    for file in files:
        for document in documents_of(file, how):
            if document.strip():
                found = True
                yield document
    if not found:
        raise DataError(
            f"{names_of(files)}: no document in it; expected text that is not only white space"
        )


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
