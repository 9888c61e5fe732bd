"""text8: the first 100 million characters of a cleaned Wikipedia, in 27 characters."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from attrs import frozen

from mdmkit.data.hub_files import HubFiles
from mdmkit.data.opening import reading
from mdmkit.data.reading import Reading, documents_of
from mdmkit.errors import DataError
from mdmkit.files import sha256_file
from mdmkit.options import option
from mdmkit.protocols import Split

_PATH = "data.corpus.path"
_LETTERS = b" abcdefghijklmnopqrstuvwxyz"
_PARTS: Mapping[Split, tuple[int, int]] = {
    "train": (0, 90),
    "validation": (90, 95),
    "test": (95, 100),
}


@frozen(kw_only=True)
class Text8:
    """text8 (M. Mahoney, 2006), split as usual: 90, 5 and 5 million characters.

    It is one long text. A document is a piece of it of `piece` characters, cut without regard to
    words, so that a split is tokenized in pieces and errors can be bootstrapped over them; packed
    without ids between documents, they are the one text again.

    With `path` nothing of the network is touched: it is the file ``text8`` or ``text8.zip`` from
    mattmahoney.net, or a folder laid out as on the hub.
    """

    dataset: str = option("afmck/text8", doc="owner/name on the hub: a row a split, column text")
    revision: str = option("main", doc="branch, tag or commit")
    characters: int = option(
        100_000_000, ge=20, doc="length of the whole, for the check; 90, 5 and 5% make the splits"
    )
    piece: int = option(10_000, ge=1, doc="characters of a document")
    path: str | None = option(None, doc="the file text8 or text8.zip, or a folder, not the hub")

    def documents(self, split: Split) -> Iterator[str]:
        """The pieces of `split`, in their order.

        Raises:
            DataError: where it cannot be had, or is not as long as it should be, or has other
                characters than a to z and the space.
        """
        file = self._file()
        return self._of_hub(split) if file is None else self._of_file(file, split)

    def fingerprint(self, split: Split) -> str:
        """sha256 over the content of a local file, or over the commit, and over the options."""
        facts = {"piece": str(self.piece), "characters": str(self.characters)}
        file = self._file()
        if file is None:
            return self._files(split).fingerprint(**facts)
        with reading(file):
            content = sha256_file(file)
        return hashlib.sha256(f"{content} {split} {sorted(facts.items())}".encode()).hexdigest()

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Source, split and either commit or local files."""
        file, (start, stop) = self._file(), self._bounds(split)
        facts: dict[str, Any] = {"split": split, "characters": stop - start, "piece": self.piece}
        if file is None:
            return facts | self._files(split).describe()
        return facts | {"source": "text8", "local_copy": True, "files": [file.name]}

    def _bounds(self, split: Split) -> tuple[int, int]:
        start, stop = (percent * self.characters // 100 for percent in _PARTS[split])
        return start, stop

    def _file(self) -> Path | None:
        path = None if self.path is None else Path(self.path).expanduser()
        return path if path is not None and path.is_file() else None

    def _files(self, split: Split) -> HubFiles:
        return HubFiles(
            dataset=self.dataset,
            config=None,
            revision=self.revision,
            split=split,
            path=self.path,
            option=_PATH,
        )

    def _of_hub(self, split: Split) -> Iterator[str]:
        start, stop = self._bounds(split)
        files = self._files(split).files()
        text = "".join(t for file in files for t in documents_of(file, Reading(documents="file")))
        if len(text) != stop - start:
            raise DataError(
                f"{self.dataset}, split {split}: {len(text)} characters; expected {stop - start}"
            )
        for place in range(0, len(text), self.piece):
            piece = text[place : place + self.piece]
            yield _checked(piece.encode(), place, f"{self.dataset}, split {split}")

    def _of_file(self, file: Path, split: Split) -> Iterator[str]:
        place, stop = self._bounds(split)
        with reading(file), _content(file) as (content, size):
            if size != self.characters:
                raise DataError(
                    f"{file}: {size} bytes; expected {self.characters}, all of text8; for another "
                    "text of the kind set data.corpus.characters"
                )
            content.seek(place)
            while place < stop:
                piece = content.read(min(self.piece, stop - place))
                yield _checked(piece, place, str(file))
                place += len(piece)


@contextmanager
def _content(file: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of the text and how many there are."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as content:
            yield content, file.stat().st_size
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise DataError(f"{file}: {len(members)} files in it; expected text8 alone")
        try:
            with archive.open(members[0]) as content:
                yield content, members[0].file_size
        except zipfile.BadZipFile as error:
            raise DataError(f"{file}: the archive is damaged ({error}); get it again") from error


def _checked(piece: bytes, place: int, where: str) -> str:
    strange = piece.translate(None, _LETTERS)
    if strange or not piece:
        at = place + (piece.index(strange[:1]) if strange else 0)
        found = f"the byte 0x{strange[0]:02x}" if strange else "the end"
        raise DataError(f"{where}: byte {at}: {found}; expected a to z and spaces")
    return piece.decode("ascii")
