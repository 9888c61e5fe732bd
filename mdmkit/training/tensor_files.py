"""Tensors on disk in torch's distributed checkpoint format, read without executing anything.

The format keeps its table of contents in a pickle, which the stock reader loads with all that a
pickle can do; ours makes inert records of it (`mdmkit.training.table_of_contents`). Only tensors
are read, no pickled objects.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from mdmkit.errors import CheckpointError
from mdmkit.training.table_of_contents import read_table_of_contents

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer


class _Reader(FileSystemReader):
    """The stock reader, but for the unpickler and a look at where the files lie."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        metadata = read_table_of_contents(Path(str(self.path)))
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            place = self.storage_data[item.storage_index]
            with (Path(str(self.path)) / place.relative_path).open("rb") as file:
                _require_plain(file, place.offset, place.length)
        return super().read_data(plan, planner)


class _TensorsOnly(DefaultLoadPlanner):
    """The stock planner, but for pickled objects, which are never read."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:  # noqa: ARG002
        raise CheckpointError(f"{read_item.dest_index.fqn}: not a tensor; it is not read")


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    distributed: bool,
    group: dist.ProcessGroup | None = None,
) -> None:
    """Write `tensors` into the directory `path`; with several ranks, each its own shards.

    Args:
        path: it must exist.
        tensors: by name.
        distributed: whether all ranks of `group` take part.
        group: the default one if it is None.

    Raises:
        OSError: where a file cannot be written.
    """
    _accept_one_process()
    try:
        state_dict_saver.save(
            dict(tensors),
            storage_writer=FileSystemWriter(path),
            process_group=group,
            no_dist=not distributed,
        )
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise cause if isinstance(cause, OSError) else OSError(str(cause)) from error


def read_tensors(path: Path, tensors: Mapping[str, Tensor], *, distributed: bool) -> None:
    """Fill `tensors` in place from the directory `path`; ranks may be more or fewer than wrote.

    Raises:
        CheckpointError: where a tensor is missing or a file cannot be read.
    """
    _accept_one_process()
    try:
        state_dict_loader.load(
            dict(tensors),
            storage_reader=_Reader(path),
            planner=_TensorsOnly(),
            no_dist=not distributed,
        )
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise CheckpointError(f"{path}: cannot be read ({cause})") from error


def tensor_sizes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in the directory `path`."""
    entries = read_table_of_contents(path).state_dict_metadata
    return {
        name: tuple(entry.size)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }


class _Part(io.RawIOBase):
    """Some bytes of an open file, as a file."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self._file, self._offset, self._length, self._place = file, offset, length, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)[: max(self._length - self._place, 0)]
        self._file.seek(self._offset + self._place)
        view[:] = self._file.read(len(view))
        self._place += len(view)
        return len(view)


def _require_plain(file: BinaryIO, offset: int, length: int) -> None:
    """Refuse a saved tensor that would take more room than its bytes on the disk.

    torch saves one as a zip file whose members are stored as they are, and reads others, too.
    """
    with zipfile.ZipFile(_Part(file, offset, length)) as members:
        listed = members.infolist()
    packed = any(member.compress_type for member in listed)
    if packed or sum(member.file_size for member in listed) > length:
        raise CheckpointError("a tensor is packed; expected it as torch saves it")


def _accept_one_process() -> None:
    """Ask torch for no remark that a single process saves alone, which is what is wanted.

    For good, since putting the filters back is not safe beside other threads; they hold it once.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
