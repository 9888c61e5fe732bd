"""``.metadata`` of a checkpoint: a pickle, read without calling anything that it names.

torch keeps the names, shapes and places of the tensors in a pickle of its own classes. Here the
instructions of the pickle build inert records, which are then read like any plain data; no class
is looked up, no function called, no attribute set. Only the instructions that torch's own files
consist of are known, each of which takes room in proportion to its own bytes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from attrs import define, frozen
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from mdmkit.errors import CheckpointError
from mdmkit.plain_files import MIB, read_bytes
from mdmkit.problems import found
from mdmkit.runs.checkpoints import TABLE_OF_CONTENTS

NAME = TABLE_OF_CONTENTS
LARGEST = 64 * MIB
"""Bytes; a tensor, or a shard of one, takes about 300 of them."""

_MODULES = {
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "ChunkStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("PosixPath", "WindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath"),
}
_INSTRUCTIONS = (
    *("PROTO", "FRAME", "MARK", "STOP", "GLOBAL", "STACK_GLOBAL", "NEWOBJ", "REDUCE", "BUILD"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
    *("SHORT_BINUNICODE", "BINUNICODE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
)


@frozen
class _Name:
    """A name of the list, which stands for itself alone."""

    name: str


@define(eq=False)
class _Record:
    """What would be an object.

    Attributes:
        name: of its class, or of the function that would make it.
        arguments: what it would be made with.
        state: what it would then be filled with.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Records(pickle._Unpickler):
    """Follows the instructions of a pickle, building records.

    The interpreter's unpickler in Python keeps what is memoized by number in a dict; the one in C
    makes room for all smaller numbers, too, of which ten bytes can ask for gigabytes.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        """The name itself, where it is one of the list."""
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if dtype or (module, name) == ("torch", "Size") or name in _MODULES.get(module, ()):
            return _Name(name)
        raise pickle.UnpicklingError(f"the name {found(f'{module}.{name}')} has no business there")

    def make(self) -> None:
        """NEWOBJ and REDUCE: a record instead of a call."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(arguments) is not tuple:
            raise pickle.UnpicklingError("an object is made of something that is no class")
        self.stack.append(_Record(name.name, arguments))

    def fill(self) -> None:
        """BUILD: the state is kept; nothing is set."""
        state, record = self.stack.pop(), self.stack[-1]
        if type(record) is not _Record or record.state is not None:
            raise pickle.UnpicklingError("something is filled that is no object, or a second time")
        record.state = state

    def set_item(self) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key], [value])

    def set_items(self) -> None:
        """SETITEMS."""
        items = self.pop_mark()
        self._set(self.stack[-1], items[::2], items[1::2])

    def _set(self, table: Any, keys: list[Any], values: list[Any]) -> None:
        # No other keys: the hash of tuples that share their parts can take for ever.
        if type(table) is not dict or any(type(key) not in (str, _Record) for key in keys):
            raise pickle.UnpicklingError("a table has keys that are no names")
        table.update(zip(keys, values, strict=True))

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **{
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in _INSTRUCTIONS
        },
        pickle.NEWOBJ[0]: make,
        pickle.REDUCE[0]: make,
        pickle.BUILD[0]: fill,
        pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: set_items,
    }


def read_table_of_contents(folder: Path) -> Metadata:
    """The table of contents of the checkpoint in `folder`.

    Returns:
        Made anew of what it says; every file it names is there, in `folder` itself, and long
        enough, and the tensors are no larger than all files together.

    Raises:
        CheckpointError: where it is anything else.
    """
    path = folder / NAME
    try:
        root = _Records(io.BytesIO(read_bytes(path, LARGEST))).load()
        fields = _fields(root, "Metadata")
        tensors = {
            name: _tensor(name, entry) for name, entry in _pairs(fields, "state_dict_metadata")
        }
        sizes = dict[str, int]()
        places = {
            _index(key): _place(entry, folder, sizes)
            for key, entry in _pairs(fields, "storage_data")
        }
        # Not `Size.numel`, which begins anew at 2**64.
        claimed = sum(math.prod(t.size) * t.properties.dtype.itemsize for t in tensors.values())
        if claimed > sum(sizes.values()):
            raise _refusal(f"its tensors would take {claimed:,} bytes, which its files do not have")
    except CheckpointError:
        raise
    except Exception as error:  # whatever a hostile file makes of the unpickler
        own = isinstance(error, pickle.UnpicklingError)
        reason = str(error) if own else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: refused ({reason})") from error
    return Metadata(
        state_dict_metadata=cast("dict[str, Any]", tensors),
        storage_data=places,
        storage_meta=StorageMeta(),
    )


def _refusal(message: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(message)


def _fields(record: object, name: str) -> Mapping[str, Any]:
    """The attributes of what would be an object of that class."""
    if type(record) is not _Record or record.name != name or type(record.state) is not dict:
        raise _refusal(f"something is no {name}")
    return record.state


def _pairs(fields: Mapping[str, Any], name: str) -> list[tuple[Any, Any]]:
    table = fields[name]
    if type(table) is not dict:
        raise _refusal(f"{name} is no table")
    return list(table.items())


def _size(record: object) -> torch.Size:
    """A shape, or a place in a tensor."""
    if type(record) is _Record and record.name == "Size" and len(record.arguments) == 1:
        numbers = record.arguments[0]
        if type(numbers) is tuple and all(map(_count, numbers)):
            return torch.Size(numbers)
    raise _refusal("a size is none")


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _tensor(name: object, record: object) -> TensorStorageMetadata:
    if type(name) is not str:
        raise _refusal("a tensor's name is no string")
    fields = _fields(record, "TensorStorageMetadata")
    size, chunks = _size(fields["size"]), fields["chunks"]
    if type(chunks) is not list:
        raise _refusal("the parts of a tensor are no list")
    parts = []
    for chunk in chunks:
        inner = _fields(chunk, "ChunkStorageMetadata")
        offsets, sizes = _size(inner["offsets"]), _size(inner["sizes"])
        ends = [begin + length for begin, length in zip(offsets, sizes, strict=True)]
        if len(ends) != len(size) or any(end > n for end, n in zip(ends, size, strict=True)):
            raise _refusal("a part of a tensor lies outside of it")
        parts.append(ChunkStorageMetadata(offsets=offsets, sizes=sizes))
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=_dtype(fields["properties"])), size=size, chunks=parts
    )


def _dtype(record: object) -> torch.dtype:
    if type(record) is _Record and record.name == "TensorProperties":
        first = record.state[0] if type(record.state) is tuple and record.state else None
        dtype = getattr(torch, first.name, None) if type(first) is _Name else None
        if isinstance(dtype, torch.dtype):
            return dtype
    raise _refusal("the type of a tensor is none")


def _index(record: object) -> MetadataIndex:
    """The tensor, or part of one, that a place in a file belongs to."""
    fields = _fields(record, "MetadataIndex")
    name, offset, index = fields["fqn"], fields.get("offset"), fields.get("index")
    if type(name) is not str or not (index is None or _count(index)):
        raise _refusal("a tensor's name is no string")
    return MetadataIndex(name, None if offset is None else _size(offset), index)


def _place(record: object, folder: Path, sizes: dict[str, int]) -> _StorageInfo:
    """A place in a file; `sizes` of files that were looked at are kept."""
    fields = _fields(record, "_StorageInfo")
    name, offset, length = (fields[key] for key in ("relative_path", "offset", "length"))
    if type(name) is not str or not (_count(offset) and _count(length)):
        raise _refusal("the place of a tensor is none")
    if fields.get("transform_descriptors"):
        raise _refusal("its tensors are encoded in some way")
    if name not in sizes:
        file = folder / name
        if file.resolve().parent != folder.resolve():
            raise _refusal(f"files outside: {found(name)}")
        sizes[name] = file.stat().st_size
    if offset + length > sizes[name]:
        raise _refusal(f"{found(name)} ends before a tensor that should be in it")
    return _StorageInfo(name, offset, length)
