"""Rows of tables: JSON lines, CSV, parquet and Arrow files, in order, in constant memory.

Every problem becomes a `DataError` that says where it is (file, and line or row), what was found
and what was expected.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from mdmkit.data.opening import File, lines, reading, require_kind
from mdmkit.errors import DataError
from mdmkit.suggest import did_you_mean

_BATCH = 1024  # rows
_LONGEST_FIELD = 2**31 - 1  # of a CSV file, in characters: what the csv module takes everywhere


@frozen(kw_only=True)
class Columns:
    """The columns that are read: every file must have them.

    Attributes:
        names: of the columns.
        option: what the user names them with, for messages.
    """

    names: Sequence[str]
    option: str | None = None

    def require(self, present: Iterable[str], where: str) -> None:
        """Check that they are all among those that are `present`.

        Raises:
            DataError: naming the first that is missing, and `where`.
        """
        there = list(present)
        for name in self.names:
            if name not in there:
                raise DataError(f"{where}: {no_column(name, there, option=self.option)}")


@frozen(kw_only=True, eq=False)
class Row:
    """One row of a table.

    Attributes:
        values: by column, plain Python values (nested columns are dicts and lists). Of CSV, all
            are strings.
        file: where it stands.
        place: the line (JSON lines, CSV; from 1; the last one of the row), or the row (from 0).
    """

    values: Mapping[str, Any]
    file: File
    place: int

    @property
    def where(self) -> str:
        """File and position, for a message."""
        word = "line" if require_kind(self.file) in _BY_LINE else "row"
        return f"{self.file}: {word} {self.place}"

    def text(self, column: str, *, option: str | None = None) -> str:
        """The string in `column`; a missing value of a parquet or Arrow file is empty.

        Args:
            column: its name.
            option: the option that names the column, for the message.

        Raises:
            DataError: no such column, no string, or none that can be written as UTF-8.
        """
        if column not in self.values:
            raise DataError(f"{self.where}: {no_column(column, self.values, option=option)}")
        text = self.values[column]
        if text is None and require_kind(self.file) not in _BY_LINE:
            return ""
        if not isinstance(text, str):
            remedy = f"; set {option} to the one that holds the text" if option else ""
            raise DataError(
                f"{self.where}: expected a string under {column!r}, got "
                f"{type(text).__name__}{remedy}"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.where}: half of a surrogate pair at character {error.start} of "
                f"{column!r}; expected whole Unicode characters"
            ) from error
        return text


def rows_of(file: File, *, columns: Columns | None = None, first: int = 0) -> Iterator[Row]:
    """The rows of one file from number `first` on; there may be none.

    Args:
        file: what is read.
        columns: of parquet no others are read, which is faster; None for all.
        first: rows before it are left out, without unpacking them where that can be.

    Raises:
        DataError: a file of an unknown kind, one that cannot be read, or one without a column.
    """
    kind = require_kind(file)
    if kind not in _READERS:
        raise DataError(f"{file}: {kind} files have no rows; expected one of {', '.join(_READERS)}")
    with reading(file):
        for place, values in _READERS[kind](file, columns, first):
            yield Row(values=values, file=file, place=place)


def row_count(file: File) -> int:
    """How many rows a file has: out of the metadata of a parquet file, else by reading it."""
    kind = require_kind(file)
    if kind == ".jsonl":
        with reading(file):
            return sum(1 for line in lines(file) if line.strip())
    if kind != ".parquet":
        return sum(1 for _ in rows_of(file))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with reading(file), file.open("rb") as content:
            return int(pq.read_metadata(content).num_rows)
    except pa.ArrowException as error:
        raise _not_whole(file, error) from error


def no_column(column: str, columns: Iterable[str], *, option: str | None = None) -> str:
    """Say that there is no such column, which there are, and which may have been meant."""
    names = list(columns)
    remedy = f"; set {option}" if option else ""
    return (
        f'no column "{column}"{did_you_mean(column, names)} '
        f"(there are: {', '.join(names) or 'none'}){remedy}"
    )


# --- JSON lines and CSV --------------------------------------------------------------------

_Placed = Iterator[tuple[int, Mapping[str, Any]]]


def _jsonl(file: File, columns: Columns | None, first: int) -> _Placed:
    count = 0
    for number, line in enumerate(lines(file), start=1):
        if not line.strip():
            continue
        count += 1
        if count > first:
            row = _json_object(line, f"{file}: line {number}")
            if columns:
                columns.require(row, f"{file}: line {number}")
            yield number, row


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}); expected one JSON object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _separated(separator: str) -> Callable[[File, Columns | None, int], _Placed]:
    def read(file: File, columns: Columns | None, first: int) -> _Placed:
        csv.field_size_limit(_LONGEST_FIELD)  # the module's own limit is 131,072 characters
        table = csv.reader(lines(file), delimiter=separator, strict=True)
        try:
            header = next((row for row in table if row), None)
            if header is None:
                return
            _check_header(file, header, columns)
            for count, row in enumerate(row for row in table if row):
                if len(row) != len(header):
                    raise DataError(
                        f"{file}: line {table.line_num}: {len(row)} fields; expected "
                        f"{len(header)}, as in the header ({', '.join(header)})"
                    )
                if count >= first:
                    yield table.line_num, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise DataError(
                f"{file}: line {table.line_num}: {error}; expected fields separated by "
                f'{separator!r}, in double quotes where they hold a line end, "" for a quote'
            ) from error

    return read


def _check_header(file: File, header: Sequence[str], columns: Columns | None) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file}: line 1: the header names {', '.join(twice)} more than once")
    if columns:
        columns.require(header, f"{file}: line 1, the header")


# --- parquet and Arrow ---------------------------------------------------------------------


def _parquet(file: File, columns: Columns | None, first: int) -> _Placed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as content, pq.ParquetFile(content) as table:
            if columns:
                columns.require(table.schema_arrow.names, str(file))
            groups, row = _groups_from(table.metadata, first)
            # A name with a dot could be a path into a nested column, so names are checked first.
            wanted = list(columns.names) if columns else None
            for batch in table.iter_batches(_BATCH, row_groups=groups, columns=wanted):
                yield from _of_batch(file, batch, row, first)
                row += batch.num_rows
    except pa.ArrowException as error:
        raise _not_whole(file, error) from error


def _groups_from(metadata: Any, first: int) -> tuple[list[int], int]:
    """The row groups from the one that holds row `first` on, and the number of its first row."""
    row = 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if row + count > first:
            return list(range(group, metadata.num_row_groups)), row
        row += count
    return [], row


def _arrow(file: File, columns: Columns | None, first: int) -> _Placed:
    import pyarrow as pa

    try:
        with file.open("rb") as content:
            magic = content.read(6)
            content.seek(0)
            row = 0
            for batch in _arrow_batches(content, random_access=magic == b"ARROW1"):
                if columns:
                    columns.require(batch.schema.names, str(file))
                yield from _of_batch(file, batch, row, first)
                row += batch.num_rows
    except pa.ArrowException as error:
        raise _not_whole(file, error) from error


def _arrow_batches(content: Any, *, random_access: bool) -> Iterator[Any]:
    """Record batches of the IPC file format, or of the stream format, which `datasets` writes."""
    from pyarrow import ipc

    if not random_access:
        with ipc.open_stream(content) as stream:
            yield from stream
        return
    with ipc.open_file(content) as table:
        for number in range(table.num_record_batches):
            yield table.get_batch(number)


def _of_batch(file: File, batch: Any, row: int, first: int) -> _Placed:
    skipped = max(0, first - row)
    if skipped >= batch.num_rows:
        return
    names, batch = batch.schema.names, batch.slice(skipped)
    for number in range(batch.num_rows):
        values = {}
        for name, column in zip(names, batch.columns, strict=True):
            try:
                values[name] = column[number].as_py()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{file}: row {row + skipped + number}: byte {error.start} of {name!r} is "
                    "not UTF-8; expected UTF-8 text"
                ) from error
        yield row + skipped + number, values


def _not_whole(file: File, error: Exception) -> DataError:
    kind = require_kind(file).removeprefix(".")
    return DataError(
        f"{file}: not a whole {kind} file ({error}); get it again, or name it after its kind"
    )


_BY_LINE = (".jsonl", ".csv", ".tsv")
_READERS: Mapping[str, Callable[[File, Columns | None, int], _Placed]] = {
    ".jsonl": _jsonl,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".arrow": _arrow,
}
