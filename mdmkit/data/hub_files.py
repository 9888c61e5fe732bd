"""The files of a split: those of the hub, or of a local copy in their place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit.data.hub import HubSplit, Resolved, fetch_split, require_reachable, resolve
from mdmkit.data.layout import expected_layout, split_files
from mdmkit.data.opening import File, contents_fingerprint, folder_files, require_kind
from mdmkit.data.remote import RemoteFile
from mdmkit.errors import DataError


@frozen(kw_only=True)
class HubFiles:
    """Where a split of a data set on the hub is read from.

    Attributes:
        dataset: ``owner/name`` on the hub.
        config: the configuration (subset), or None.
        revision: branch, tag or commit.
        split: the split's name on the hub.
        path: a local file that holds the split, or a folder laid out as on the hub; None for the
            hub itself.
        option: what the user sets `path` with, for messages.
        pattern: of the split's files, where they are named otherwise than usual.
        streaming: leave the hub's files on the hub, and read them over the network.
    """

    dataset: str
    config: str | None
    revision: str
    split: str
    path: str | None
    option: str
    pattern: str | None = None
    streaming: bool = False

    def files(self) -> Sequence[File]:
        """The files in their order.

        Raises:
            DataError: where they cannot be had.
        """
        if self.path is not None:
            return self._local(self.path)
        if not self.streaming:
            return fetch_split(self._wanted, option=self.option)
        require_reachable(self._wanted, option=self.option)
        resolved = self._resolved()
        return [
            RemoteFile(dataset=self.dataset, commit=resolved.commit, path=n, option=self.option)
            for n in resolved.names
        ]

    def fingerprint(self, **facts: str) -> str:
        """sha256 over the contents of a local copy, or over the commit and the file names.

        Args:
            facts: what else decides what is read.
        """
        if self.path is not None:
            return contents_fingerprint(self._local(self.path), **facts)
        resolved = self._resolved()  # whether streamed or not: the same text
        source = [self.dataset, resolved.commit, list(resolved.names), sorted(facts.items())]
        return hashlib.sha256(json.dumps(source).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Data set, configuration, split and either commit or local files."""
        facts = {"source": self.dataset, "config": self.config, "hub_split": self.split}
        if self.path is not None:
            local = self._local(self.path)
            return facts | {"local_copy": True, "files": [f.name for f in local]}
        resolved = self._resolved()
        return facts | {
            "revision": self.revision,
            "commit": resolved.commit,
            "files": list(resolved.names),
        }

    @property
    def _wanted(self) -> HubSplit:
        return HubSplit(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=self.split,
            pattern=self.pattern,
        )

    def _resolved(self) -> Resolved:
        return resolve(self._wanted, option=self.option)

    def _local(self, given: str) -> list[Path]:
        path = Path(given).expanduser()
        if path.is_file():
            require_kind(path, option=self.option)
            return [path]
        layout = expected_layout(self.config, self.split, self.pattern)
        if not path.is_dir():
            raise DataError(
                f"{self.option}: there is nothing at {str(path)!r}; expected a local copy of "
                f"{self.dataset}: a file, or a folder in the hub's layout ({layout})"
            )
        names = split_files(
            folder_files(path), config=self.config, split=self.split, pattern=self.pattern
        )
        if not names:
            raise DataError(
                f"{self.option}: {str(path)!r} has no files of the split {self.split!r} of "
                f"{self.dataset}; expected one of: {layout}; or name the split as it is called "
                "there"
            )
        return [path / n for n in names]
