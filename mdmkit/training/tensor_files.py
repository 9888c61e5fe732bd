"""Tensors on disk in torch's distributed checkpoint format, read without executing anything.

The format keeps its table of contents in a pickle, which the stock reader loads with all that a
pickle can do. Ours allows the few names such a table needs; and only tensors are read, no
pickled objects.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.planner import ReadItem

from mdmkit.errors import CheckpointError

_METADATA = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    (_METADATA, "Metadata"),
    (_METADATA, "MetadataIndex"),
    (_METADATA, "StorageMeta"),
    (_METADATA, "TensorProperties"),
    (_METADATA, "TensorStorageMetadata"),
    (_METADATA, "ChunkStorageMetadata"),
    (_METADATA, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Loads a checkpoint's table of contents, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"the name {module}.{name} has no business there")


class _Reader(FileSystemReader):
    """The stock reader, but for the unpickler and a look at where the files lie."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        folder = Path(str(self.path))
        metadata = _table_of_contents(folder)
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


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
    entries = _table_of_contents(path).state_dict_metadata
    return {
        name: tuple(entry.size)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def _table_of_contents(path: Path) -> Metadata:
    try:
        with (path / ".metadata").open("rb") as file:
            metadata = _RestrictedUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError("it is no table of contents")
        names = {info.relative_path for info in (metadata.storage_data or {}).values()}
    except Exception as error:  # a hostile pickle can raise anything
        raise CheckpointError(f"{path / '.metadata'}: refused ({error})") from error
    outside = [name for name in names if (path / name).resolve().parent != path.resolve()]
    if outside:
        raise CheckpointError(f"{path / '.metadata'}: refused (files outside: {outside})")
    return metadata


def _accept_one_process() -> None:
    """Ask torch for no remark that a single process saves alone, which is what is wanted.

    For good, since putting the filters back is not safe beside other threads; they hold it once.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
