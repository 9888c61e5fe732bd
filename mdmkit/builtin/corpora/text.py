"""Text in local files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from mdmkit.data.opening import contents_fingerprint, expand
from mdmkit.data.reading import Reading, read_documents
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Split


@frozen(kw_only=True)
class Text:
    """Local files: .txt, .jsonl, .csv, .tsv, .parquet or .arrow, mixed as you like.

    All but the last two also as .gz, .xz, .bz2 or .zst. A split is a file, a folder (all such
    files in it, at any depth) or a glob, relative to the working directory. Files are read in the
    order of their paths.
    """

    train: str | None = option(None, doc="file, folder or glob of the training text")
    validation: str | None = option(None, doc="the same for validation")
    test: str | None = option(None, doc="the same for testing")
    document: Literal["file", "blank_line", "line"] = option(
        "file", doc="a document of a .txt file: all of it, a paragraph, or a line"
    )
    column: str = option("text", doc="the column (key) of the text, in all but .txt files")

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`; those that hold only white space are skipped."""
        return read_documents(self._files(split), self._reading())

    def fingerprint(self, split: Split) -> str:
        """sha256 over the contents of the files."""
        return contents_fingerprint(self._files(split), documents=self.document, column=self.column)

    def describe(self, split: Split) -> Mapping[str, Any]:
        """The files."""
        return {
            "source": "local files",
            "pattern": getattr(self, split),
            "files": [f.name for f in self._files(split)],
            "split": split,
        }

    def _reading(self) -> Reading:
        return Reading(documents=self.document, column=self.column)

    def _files(self, split: Split) -> list[Path]:
        pattern: str | None = getattr(self, split)
        if pattern is None:
            raise DataError(
                f"data.corpus.{split}: not set, but the {split} split is asked for; set it to a "
                f"file, folder or glob, for example `--set data.corpus.{split}=texts/*.txt`"
            )
        return expand(pattern, option=f"data.corpus.{split}")
