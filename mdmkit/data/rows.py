"""Rows of data sets that are tables: multiple-choice questions, say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from mdmkit.data.hub_files import HubFiles
from mdmkit.data.opening import File, names_of
from mdmkit.data.tables import Columns, Row, rows_of
from mdmkit.errors import DataError

__all__ = ["Columns", "Row", "RowSource", "read_rows"]


def read_rows(files: Sequence[File], *, columns: Columns | None = None) -> Iterator[Row]:
    """The rows of JSON lines, CSV, parquet and Arrow files, in order.

    Args:
        files: paths, or files on the hub; their names say what they are.
        columns: of parquet no others are read, which is faster; None for all.

    Raises:
        DataError: a file of an unknown kind, one that cannot be read, or no row at all.
    """
    found = False
    for file in files:
        for row in rows_of(file, columns=columns):
            found = True
            yield row
    if not found:
        raise DataError(f"{names_of(files) or 'no files'}: no row in it")


@frozen(kw_only=True)
class RowSource:
    """A split of a table: from the hub, or from a local copy in its place.

    Attributes:
        dataset: ``owner/name`` on the hub.
        config: the configuration (subset), or None.
        revision: branch, tag or commit.
        split: the split's name on the hub.
        path: a local file that holds the split, or a folder laid out as on the hub; None for the
            hub, which is then not needed again once the split was fetched.
        option: what the user sets `path` with, for messages.
    """

    dataset: str
    config: str | None = None
    revision: str = "main"
    split: str = "validation"
    path: str | None = None
    option: str = "path"

    def rows(self) -> Iterator[Row]:
        """The rows, in the order of the files.

        Raises:
            DataError: where they cannot be had or read.
        """
        return read_rows(self._files.files())

    def fingerprint(self) -> str:
        """sha256 over the contents of a local copy, or over the commit and file names."""
        return self._files.fingerprint()

    def describe(self) -> Mapping[str, Any]:
        """Data set, configuration, split and either commit or local files, as plain JSON."""
        return self._files.describe()

    @property
    def _files(self) -> HubFiles:
        return HubFiles(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=self.split,
            path=self.path,
            option=self.option,
        )
