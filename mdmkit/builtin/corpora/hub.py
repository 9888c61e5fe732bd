"""Data sets of the Hugging Face hub, from the hub or from a local copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
from attrs import frozen

from mdmkit.data.hub_files import HubFiles
from mdmkit.data.layout import expected_layout
from mdmkit.data.reading import Reading, read_documents
from mdmkit.data.slices import SplitSlice
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Split

_PATH = "data.corpus.path"


@frozen(kw_only=True)
class Hub:
    """A text data set on the Hugging Face hub (parquet, Arrow, jsonl, csv, txt; no script is run).

    `train`, `validation` and `test` name a split as it is called on the hub, or rows of one, as
    the `datasets` library says it: ``train[:-100000]``, ``train[-100000:]``, ``train[90%:]``.
    Rows are counted over all files of the split in their order, empty ones too.

    With `path` nothing of the network is touched: it is a local folder that is laid out as on the
    hub, or one file, which is the split that `file_split` names. Otherwise the files are fetched
    once and kept in the hub's cache or, with `streaming`, read over the network each time the
    tokens are made and not kept.
    """

    licence: ClassVar[str | None] = None
    """What the data set's card says, where it is known."""

    dataset: str = option(doc="owner/name on the hub")
    config: str | None = option(None, doc="the configuration (subset), where there are several")
    revision: str = option("main", doc="branch, tag or commit")
    column: str = option("text", doc="the column that holds the text")
    train: str = option("train", doc="the hub's name of the split used for training, or rows of it")
    validation: str = option("validation", doc="of the one used for validation")
    test: str = option("test", doc="of the one used for testing")
    document: Literal["file", "blank_line", "line"] = option(
        "line", doc="a document of a .txt file: all of it, a paragraph, or a line"
    )
    keep_empty: bool = option(False, doc="rows that are empty or white space are documents too")
    limit: int = option(0, ge=0, doc="use only so many documents of a split, the first; 0: all")
    files: str | None = option(
        None,
        doc="a pattern (with * and <split>) of a split's files where they are named unusually",
    )
    streaming: bool = option(False, doc="read over the network; keep nothing but the tokens")
    path: str | None = option(None, doc="a local file or folder to read instead of the hub")
    file_split: Literal["train", "validation", "test"] = option(
        "train", doc="the split that `path` is, where it is a single file"
    )

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`; those that hold only white space are skipped by default."""
        part = self._part(split)
        how = Reading(
            documents=self.document,
            column=self.column,
            keep_empty=self.keep_empty,
            rows=part if part.rows else None,
            limit=self.limit,
        )
        return read_documents(self._files(split).files(), how)

    def fingerprint(self, split: Split) -> str:
        """sha256 over the contents of a local copy, or over the commit and file names."""
        facts = {"documents": self.document, "column": self.column, "rows": self._part(split).rows}
        if self.keep_empty:
            facts["keep_empty"] = "true"
        if self.limit:
            facts["limit"] = str(self.limit)
        return self._files(split).fingerprint(**facts)

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Data set, configuration, split and either commit or local files; licence if known.

        Of a single file that stands in for a split nothing is claimed but its name.
        """
        facts: dict[str, Any] = {"split": split} | self._files(split).describe()
        if self.path is not None and Path(self.path).expanduser().is_file():
            return {
                "source": f"a local file in place of {self.dataset}",
                "local_copy": True,
                "files": facts["files"],
                "rows": getattr(self, split),
                **({"limit": self.limit} if self.limit else {}),
            }
        facts["hub_split"] = getattr(self, split)
        if self.limit:
            facts["limit"] = self.limit
        if self.licence and self.dataset == attrs.fields_dict(type(self))["dataset"].default:
            facts["licence"] = self.licence
        return facts

    def _part(self, split: Split) -> SplitSlice:
        return SplitSlice.parse(getattr(self, split), option=f"data.corpus.{split}")

    def _files(self, split: Split) -> HubFiles:
        name = self._part(split).name
        if self.path is not None and Path(self.path).expanduser().is_file():
            self._check_single_file(self.path, split)
        return HubFiles(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=name,
            path=self.path,
            option=_PATH,
            pattern=self.files,
            streaming=self.streaming,
        )

    def _check_single_file(self, path: str, split: Split) -> None:
        """One file must not silently serve for training and for validation."""
        name = self._part(split).name
        if name == self._part(self.file_split).name:
            return
        raise DataError(
            f"{_PATH}: {path!r} is a single file, which is taken for the {self.file_split} split; "
            f"the {split} split is asked for. Say that the file is that one with "
            f"`--set data.corpus.file_split={split}`, or give a folder in the hub's layout "
            f"({expected_layout(self.config, name, self.files)}), or say that both are the same "
            f"text with `--set data.corpus.{split}={getattr(self, self.file_split)}`"
        )
