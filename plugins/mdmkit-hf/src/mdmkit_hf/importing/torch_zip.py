"""Files of ``torch.save``, read without running anything that is in them.

Such a file is a zip with a pickle, which says what there is, beside the raw bytes of the tensors. A
pickle is a program: it names functions and calls them. Here nothing that it names is looked up,
imported or called. A name stays a name; the few that make tensors and dictionaries are understood,
and any other object becomes a `Stub`, which keeps what the pickle gave it and does nothing.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from attrs import field, frozen
from torch import Tensor

from mdmkit import DataError

LARGEST_PICKLE = 2**28
"""Bytes. An MDLM checkpoint has a tokenizer in it and takes some 5 MB."""

MOST_DIMENSIONS = 8
"""Of a tensor. Networks have up to five."""

_LONGEST = 256
"""Characters of a name, or arguments of a call."""

_SHOWN = 60
"""Characters of a text in a message."""

_KINDS: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_LEFT_OUT = (
    pickle.EXT1, pickle.EXT2, pickle.EXT4,  # names of a registry of the process
    pickle.INST, pickle.OBJ,  # calls of old
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,  # room for what is not there
)  # fmt: skip
"""Instructions that no such file has."""


@frozen(eq=False)
class Stub:
    """An object of a class that is not looked up.

    Attributes:
        name: of the class, ``module.name``.
        arguments: it was made with.
        state: given to it afterwards: its attributes, as a rule.
        items: put into it, where it is like a dictionary.
    """

    name: str
    arguments: object = ()
    state: list[object] = field(factory=list)
    items: dict[object, object] = field(factory=dict)

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def append(self, value: object) -> None:
        """Like a list; what comes is not kept."""

    def extend(self, values: object) -> None:
        """Like a list; what comes is not kept."""

    def add(self, value: object) -> None:
        """Like a set; what comes is not kept."""


@frozen(eq=False)
class Name:
    """A class or function that a pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def shown(value: object) -> str:
    """A value of a file in a message: as it is where it is short, else its type."""
    short = isinstance(value, str) and len(value) <= _SHOWN
    small = isinstance(value, int) and abs(value) < 2**63
    if short or small or value is None or isinstance(value, float):
        return repr(value)
    return f"a {type(value).__name__}"


@frozen
class Storage:
    """The raw numbers of a tensor: a file in the zip."""

    key: str
    dtype: torch.dtype
    length: int


@frozen(kw_only=True)
class Pointer:
    """A tensor that is still in its file.

    Attributes:
        storage: where its numbers are.
        offset, shape, stride: which of them, in elements.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the tensor by itself."""
        return math.prod(self.shape) * self.storage.dtype.itemsize


@frozen(kw_only=True, eq=False)
class TorchFile:
    """A file of ``torch.save``.

    Attributes:
        path: the file.
        content: what was saved, with a `Pointer` for each tensor and a `Stub` for each object.
    """

    path: Path
    content: Any

    @classmethod
    def open(cls, path: Path) -> TorchFile:
        """Read what there is, but for the tensors.

        Raises:
            DataError: where it is no such file, or holds what such a file does not.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                folder = _folder(archive)
                text = _stored(archive, f"{folder}/data.pkl", most=LARGEST_PICKLE)
                order = f"{folder}/byteorder"
                if order in archive.namelist() and _stored(archive, order, most=16) != b"little":
                    raise pickle.UnpicklingError("written on a big-endian machine")
            return cls(path=path, content=_Reader(io.BytesIO(text)).load())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # a hostile pickle can raise anything
            raise DataError(
                f"{path}: refused ({type(error).__name__}: {error}); expected a file that torch "
                "saved (version 1.6 or later), whole"
            ) from error

    def read(self, pointer: Pointer) -> Tensor:
        """The tensor.

        Raises:
            DataError: where its numbers are not all there.
        """
        storage = pointer.storage
        size = storage.length * storage.dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive:
                name = f"{_folder(archive)}/data/{storage.key}"
                raw = _stored(archive, name, most=size)
            if len(raw) != size:
                raise ValueError(f"has {len(raw)} bytes, expected {size}")
            if not pointer.size:
                return torch.empty(pointer.shape, dtype=storage.dtype)
            flat = torch.frombuffer(bytearray(raw), dtype=storage.dtype)
            return flat.as_strided(pointer.shape, pointer.stride, pointer.offset).contiguous()
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: tensor {shown(storage.key)}: {error}") from error


def _folder(archive: zipfile.ZipFile) -> str:
    """The one folder of the zip that everything is in."""
    tops = [name.removesuffix("/data.pkl") for name in archive.namelist() if "/data.pkl" in name]
    if len(tops) != 1 or "/" in tops[0]:
        raise ValueError("it has no data.pkl, or several")
    return tops[0]


def _stored(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """A file of the zip, which torch never compresses."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > most:
        raise ValueError(f"{name} is compressed, or has more than {most} bytes")
    return archive.read(info)


def _tensor(
    storage: object, offset: object, shape: object, stride: object, *_: object
) -> Pointer | Stub:
    """What ``torch._utils._rebuild_tensor_v2`` would make."""
    if not isinstance(storage, Storage):
        return Stub("torch.Tensor")
    sizes, steps = _lengths(shape), _lengths(stride)
    first = _lengths((offset,))[0]
    if len(sizes) != len(steps):
        raise pickle.UnpicklingError(f"a tensor with shape {sizes} and stride {steps}")
    if math.prod(sizes) > storage.length:
        raise pickle.UnpicklingError("a tensor with more elements than its storage")
    last = first + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) > 0 and last >= storage.length:
        raise pickle.UnpicklingError("a tensor that goes beyond its storage")
    return Pointer(storage=storage, offset=first, shape=sizes, stride=steps)


def _lengths(values: object) -> tuple[int, ...]:
    if (
        not isinstance(values, tuple | list)
        or len(values) > MOST_DIMENSIONS
        or not all(type(value) is int and 0 <= value < 2**62 for value in values)
    ):
        raise pickle.UnpicklingError("a tensor whose shape is none")
    return tuple(values)


def _parameter(data: object, *_: object) -> object:
    """What ``torch._utils._rebuild_parameter`` would make."""
    return data


def _dictionary(*pairs: object) -> dict[object, object] | Stub:
    """What ``collections.OrderedDict`` would make, which is filled afterwards.

    A call with pairs, as Python 2 has it, could copy one list many times over: it stays a stub.
    """
    return Stub("collections.OrderedDict", pairs) if pairs else {}


def _keep(place: object, items: list[Any]) -> None:
    """Put keys and values, which alternate, into what is like a dictionary.

    Keys that are neither text nor small numbers are not kept: working out the hash of a tuple can
    take as long as a file likes.
    """
    if not isinstance(place, dict | Stub) or len(items) % 2:
        raise pickle.UnpicklingError("keys and values for what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is str or (type(key) is int and 0 <= key < 2**31):
            place[key] = value


_UNDERSTOOD: Mapping[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _dictionary,
}


def _make(name: object, arguments: object) -> object:
    """What a pickle asks to be called: something that is understood, or a stub."""
    if not isinstance(name, Name):
        return Stub("?", arguments)
    known = _UNDERSTOOD.get((name.module, name.name))
    if known is None or not isinstance(arguments, tuple) or len(arguments) > _LONGEST:
        return Stub(str(name), arguments)
    return known(*arguments)


class _Reader(pickle._Unpickler):
    """Python's own reader of pickles, with every instruction replaced that would call something.

    It is the one in Python, not that in C, because its instructions can be replaced, and because
    it makes no room for what a file only says that it has.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: step
        for code, step in pickle._Unpickler.dispatch.items()
        if code not in {left_out[0] for left_out in _LEFT_OUT}
    }

    def find_class(self, module: str, name: str) -> Any:
        if len(module) + len(name) > _LONGEST:
            raise pickle.UnpicklingError("a name that is too long")
        return Name(module, name)

    def persistent_load(self, pid: Any) -> Any:
        kind, name, key, _, length = pid
        dtype = _KINDS.get(name.name) if isinstance(name, Name) and name.module == "torch" else None
        if kind != "storage" or dtype is None or not isinstance(key, str):
            return Stub("torch.storage")
        return Storage(key, dtype, _lengths((length,))[0])

    def _call(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _make(self.stack[-1], arguments)

    def _call_with_keywords(self) -> None:
        self.stack.pop()
        self._call()

    def _set_state(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Stub):
            self.stack[-1].state.append(state)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _keep(self.stack[-1], [key, value])

    def _set_items(self) -> None:
        items = self.pop_mark()
        _keep(self.stack[-1], items)

    def _make_dictionary(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        _keep(self.stack[-1], items)

    def _make_set(self) -> None:
        self.stack.append(Stub("builtins.set"))

    def _make_frozenset(self) -> None:
        items = self.pop_mark()
        self.stack.append(Stub("builtins.frozenset", items))

    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.NEWOBJ[0]] = _call
    dispatch[pickle.NEWOBJ_EX[0]] = _call_with_keywords
    dispatch[pickle.BUILD[0]] = _set_state
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _make_dictionary
    dispatch[pickle.EMPTY_SET[0]] = _make_set
    dispatch[pickle.FROZENSET[0]] = _make_frozenset
