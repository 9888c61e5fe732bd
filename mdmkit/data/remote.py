"""Files that stay on the hub and are read over the network, piece by piece."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from attrs import field, frozen

from mdmkit.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")

_WAITS = (5.0, 20.0, 60.0)  # seconds, after the client itself has tried for about half a minute
_PIECE = 8 << 20  # bytes that are asked for at a time
_WORTH_ANOTHER_TRY = (408, 429)  # and whatever is the server's own fault


@frozen(kw_only=True)
class RemoteFile:
    """A file of a data set on the hub, at a commit.

    Attributes:
        dataset: ``owner/name``.
        commit: which version.
        path: inside the repository.
        option: what the user can set to a local copy instead, for messages.
    """

    dataset: str
    commit: str
    path: str
    option: str = field(eq=False)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """Its bytes; what is read is fetched, and forgotten again.

        Raises:
            DataError: where the hub does not deliver, here or while the bytes are read.
        """
        del mode  # there is but one
        return io.BufferedReader(_Steady(self), _PIECE)

    def __str__(self) -> str:
        return f"hf://datasets/{self.dataset}@{self.commit}/{self.path}"


class _Steady(io.RawIOBase):
    """The bytes of a remote file; a network that fails for a while is waited for.

    The hub's client tries again too, but gives up within half a minute, which is short for a pass
    over a corpus that takes a day.
    """

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file = file
        self._remote: Any = None
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset += self._patiently(lambda remote: int(remote.size))
        self._place = offset
        return offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        content = self._patiently(lambda remote: self._piece(remote, len(view)))
        view[: len(content)] = content
        self._place += len(content)
        return len(content)

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()
        super().close()

    def _piece(self, remote: Any, size: int) -> bytes:
        remote.seek(self._place)
        return bytes(remote.read(size))

    def _patiently(self, read: Callable[[Any], T]) -> T:
        for wait in (*_WAITS, None):
            try:
                if self._remote is None:
                    self._remote = _open(self._file)
                return read(self._remote)
            except Exception as error:  # the client lets through errors of several HTTP libraries
                if wait is None or not _may_pass(error):
                    raise self._failure(error) from error
                self._remote = None  # a connection that failed may be of no more use
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _failure(self, error: Exception) -> DataError:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        return DataError(
            f"{self._file}: the hub did not deliver after byte {self._place}: {said}. Start the "
            "same command again when the network is back, fetch the files with "
            "`--set data.corpus.streaming=false`, or point to a local copy with "
            f"`--set {self._file.option}=…`"
        )


def _open(file: RemoteFile) -> Any:
    from huggingface_hub import HfFileSystem

    path = f"datasets/{file.dataset}@{file.commit}/{file.path}"
    return HfFileSystem().open(path, "rb", block_size=_PIECE, cache_type="readahead")


def _may_pass(error: Exception) -> bool:
    """Whether it may go away by itself: no answer, or an answer that blames the server."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        return not isinstance(error, FileNotFoundError)
    return bool(status >= 500 or status in _WORTH_ANOTHER_TRY)
