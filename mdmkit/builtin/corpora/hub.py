"""Data sets of the Hugging Face hub, from the hub or from a local copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from mdmkit.data.hub_files import HubFiles
from mdmkit.data.layout import expected_layout
from mdmkit.data.reading import Reading, read_documents
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Split

_PATH = "data.corpus.path"


@frozen(kw_only=True)
class Hub:
    """A text data set on the Hugging Face hub (parquet, jsonl or txt files; no scripts are run).

    With ``path`` nothing of the network is touched: it is a local folder that is laid out as on
    the hub, or one file, which then is the split that `train` names.
    """

    dataset: str = option(doc="owner/name on the hub")
    config: str | None = option(None, doc="the configuration (subset), where there are several")
    revision: str = option("main", doc="branch, tag or commit")
    column: str = option("text", doc="the column that holds the text")
    train: str = option("train", doc="the hub's name of the split used for training")
    validation: str = option("validation", doc="of the one used for validation")
    test: str = option("test", doc="of the one used for testing")
    document: Literal["file", "blank_line", "line"] = option(
        "line", doc="a document of a .txt file: all of it, a paragraph, or a line"
    )
    path: str | None = option(None, doc="a local file or folder to read instead of the hub")

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`; those that hold only white space are skipped."""
        reading = Reading(documents=self.document, column=self.column)
        return read_documents(self._files(split).files(), reading)

    def fingerprint(self, split: Split) -> str:
        """sha256 over the contents of a local copy, or over the commit and file names."""
        return self._files(split).fingerprint(documents=self.document, column=self.column)

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Data set, configuration, split and either commit or local files."""
        return {"split": split} | self._files(split).describe()

    def _files(self, split: Split) -> HubFiles:
        name: str = getattr(self, split)
        if self.path is not None and name != self.train and Path(self.path).expanduser().is_file():
            raise DataError(
                f"{_PATH}: {self.path!r} is a single file, which is taken for the train split; "
                f"the {split} split is asked for. Give a folder in the hub's layout "
                f"({expected_layout(self.config, name)}), or say that it is the same text with "
                f"`--set data.corpus.{split}={self.train}`"
            )
        return HubFiles(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=name,
            path=self.path,
            option=_PATH,
        )


@frozen(kw_only=True)
class Lm1b(Hub):
    """The One Billion Word Benchmark (LM1B): one shuffled sentence a document.

    From the hub's own parquet conversion. As in MDLM (arXiv 2406.07524), the test split serves
    for validation too.
    """

    dataset: str = option("billion-word-benchmark/lm1b", doc="owner/name on the hub")
    config: str | None = option("plain_text", doc="the configuration (subset)")
    revision: str = option("refs/convert/parquet", doc="branch, tag or commit")
    validation: str = option("test", doc="the hub's name of the split used for validation")
