"""Reading the columns of a question, with errors that say where the fault is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdmkit.data.rows import Row
from mdmkit.data.tables import no_column
from mdmkit.errors import DataError

_HIDDEN = {"", "-1", "None"}


def value(row: Row, column: str) -> Any:
    """What is in `column`.

    Raises:
        DataError: where there is no such column.
    """
    if column not in row.values:
        raise DataError(f"{row.where}: {no_column(column, row.values)}")
    return row.values[column]


def texts(row: Row, column: str, found: object) -> list[str]:
    """A list of at least two strings.

    Raises:
        DataError: where it is none.
    """
    several = list(found) if isinstance(found, list | tuple) else []
    if len(several) < 2 or not all(isinstance(text, str) for text in several):
        raise DataError(f"{row.where}: expected at least two strings under {column}, got {found!r}")
    return several


def one_of(row: Row, column: str, labels: Sequence[str]) -> int:
    """Which of `labels` is in `column`: the number of the right answer. 1 is as good as "1".

    Raises:
        DataError: for a label that is hidden, as those of test splits often are, or unknown.
    """
    given = value(row, column)
    label = str(given).strip()
    if label in labels and not isinstance(given, bool | float):
        return list(labels).index(label)
    if label in _HIDDEN:
        raise DataError(
            f"{row.where}: no right answer under {column!r} (it is {given!r}); expected one of "
            f"{', '.join(labels)}: choose a split or file whose answers are published"
        )
    raise DataError(f"{row.where}: {given!r} under {column!r}; expected one of {', '.join(labels)}")


def fields(row: Row, column: str, names: Sequence[str]) -> list[Any]:
    """The members `names` of the record in `column`.

    Raises:
        DataError: where it is no record, or lacks one.
    """
    found = value(row, column)
    if not isinstance(found, Mapping) or not set(names) <= set(found):
        raise DataError(
            f"{row.where}: expected a record with {' and '.join(names)} under {column!r}, got "
            f"{found!r}"
        )
    return [found[name] for name in names]
