"""Data sets of the Hugging Face hub, from the hub or from a local copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from mdmkit.data.hub import Fetched, HubSplit, fetch_split
from mdmkit.data.layout import expected_layout, folder_files, split_files
from mdmkit.data.reading import Reading, contents_fingerprint, kind_of, read_documents, suffixes
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
        if self.path is None:
            return read_documents(self._fetched(split).files, reading)
        return read_documents(self._local(split, self.path), reading)

    def fingerprint(self, split: Split) -> str:
        """sha256 over the contents of a local copy, or over the commit and file names."""
        if self.path is not None:
            files = self._local(split, self.path)
            return contents_fingerprint(files, documents=self.document, column=self.column)
        fetched = self._fetched(split)
        facts = [self.dataset, fetched.commit, list(fetched.names), self.column, self.document]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Data set, configuration, split and either commit or local files."""
        facts: dict[str, Any] = {
            "source": self.dataset,
            "config": self.config,
            "split": split,
            "hub_split": getattr(self, split),
        }
        if self.path is not None:
            local = self._local(split, self.path)
            return facts | {"local_copy": True, "files": [f.name for f in local]}
        fetched = self._fetched(split)
        return facts | {
            "revision": self.revision,
            "commit": fetched.commit,
            "files": list(fetched.names),
        }

    def _fetched(self, split: Split) -> Fetched:
        wanted = HubSplit(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=getattr(self, split),
        )
        return fetch_split(wanted, option=_PATH)

    def _local(self, split: Split, given: str) -> list[Path]:
        path, name = Path(given).expanduser(), getattr(self, split)
        if path.is_file():
            return [self._single_file(path, split, name)]
        layout = expected_layout(self.config, name)
        if not path.is_dir():
            raise DataError(
                f"{_PATH}: there is nothing at {str(path)!r}; expected a local copy of "
                f"{self.dataset}: a file, or a folder in the hub's layout ({layout})"
            )
        names = split_files(folder_files(path), config=self.config, split=name)
        if not names:
            raise DataError(
                f"{_PATH}: {str(path)!r} has no files of the {split} split ({name!r} on the "
                f"hub); expected one of: {layout}; or set data.corpus.{split} to the name that "
                "the split has there"
            )
        return [path / n for n in names]

    def _single_file(self, path: Path, split: Split, name: str) -> Path:
        if name != self.train:
            raise DataError(
                f"{_PATH}: {str(path)!r} is a single file, which is taken for the train split; "
                f"the {split} split is asked for. Give a folder in the hub's layout "
                f"({expected_layout(self.config, name)}), or say that it is the same text with "
                f"`--set data.corpus.{split}={self.train}`"
            )
        if kind_of(path) is None:
            raise DataError(
                f"{_PATH}: cannot tell what {str(path)!r} is; expected a name that ends in "
                f"{', '.join(suffixes())}"
            )
        return path


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
