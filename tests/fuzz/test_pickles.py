"""The table of contents of a checkpoint is a pickle: whatever it says, nothing of it runs."""

from __future__ import annotations

import builtins
import copyreg
import functools
import io
import os
import pickle
import pickletools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint import metadata as of_torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from mdmkit.errors import CheckpointError
from mdmkit.training.table_of_contents import NAME, read_table_of_contents
from mdmkit.training.tensor_files import read_tensors, tensor_sizes, write_tensors

from .fuzzing import cases, changed_bytes, read_or_refused

TENSORS = {
    "model/weight": torch.arange(12.0).view(4, 3),
    "window": torch.zeros(6, dtype=torch.float64),
    "steps": torch.tensor(3),
}
CANARY = "mdmkit_fuzz_canary"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensors")
    write_tensors(folder, TENSORS, distributed=False)
    assert tensor_sizes(folder)["model/weight"] == (4, 3)
    (folder / "genuine").write_bytes((folder / NAME).read_bytes())
    return folder


@pytest.fixture(scope="module")
def genuine(folder: Path) -> bytes:
    return (folder / "genuine").read_bytes()


@pytest.fixture(autouse=True)
def no_trace(tmp_path: Path) -> Any:
    """Every payload would leave a mark in the builtins; there is none."""
    classes = {
        name: dict(vars(cls)) for name, cls in vars(of_torch).items() if isinstance(cls, type)
    }
    paths = dict(vars(Path))
    yield
    assert not hasattr(builtins, CANARY)
    assert not os.environ.pop(CANARY, None)
    for name, before in classes.items():
        assert dict(vars(vars(of_torch)[name])) == before, name
    assert dict(vars(Path)) == paths


def read(folder: Path, content: bytes) -> Any:
    """What comes of a table of contents: itself, or a CheckpointError."""
    (folder / NAME).write_bytes(content)
    found = read_or_refused(lambda: read_table_of_contents(folder))
    assert isinstance(found, Metadata | CheckpointError)
    if isinstance(found, Metadata):  # then it is fit for use
        for name, entry in found.state_dict_metadata.items():
            assert type(name) is str
            assert type(entry) is TensorStorageMetadata
        tensors = {name: torch.empty_like(tensor) for name, tensor in TENSORS.items()}
        read_or_refused(lambda: read_tensors(folder, tensors, distributed=False), folder)
    return found


# --- opcodes -------------------------------------------------------------------------------

_STRINGS = st.sampled_from(
    (
        *("os", "system", "posix", "builtins", "eval", "exec", "getattr", "setattr", "__import__"),
        *("torch", "Size", "float32", "load", "pathlib", "PosixPath", "Metadata", "copyreg"),
        *(
            "torch.distributed.checkpoint.metadata",
            "MetadataIndex",
            "StorageMeta",
            "_reconstructor",
        ),
        *("torch.distributed.checkpoint.filesystem", "_StorageInfo", "fqn", "offset", "index"),
        *("storage_data", "state_dict_metadata", "relative_path", "length", "size", "chunks"),
        *("touch canary", "__setstate__", "__dict__", "__class__", "resolve", "parent", ""),
    )
)


def _said(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text.encode())]) + text.encode()


_PIECES = st.one_of(
    st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes]),
    st.sampled_from([pickle.MARK, pickle.EMPTY_TUPLE, pickle.EMPTY_DICT, pickle.EMPTY_LIST]),
    st.sampled_from([pickle.REDUCE, pickle.BUILD, pickle.NEWOBJ, pickle.STACK_GLOBAL]),
    st.sampled_from([pickle.TUPLE1, pickle.TUPLE2, pickle.SETITEM, pickle.SETITEMS, pickle.DUP]),
    _STRINGS.map(_said),
    st.tuples(_STRINGS, _STRINGS).map(lambda p: _said(p[0]) + _said(p[1]) + pickle.STACK_GLOBAL),
    st.tuples(_STRINGS, _STRINGS).map(lambda p: f"c{p[0]}\n{p[1]}\n".encode()),
    st.integers(0, 255).map(lambda n: pickle.BININT1 + bytes([n])),
    st.integers(0, 20).map(lambda n: pickle.BINGET + bytes([n])),
    st.integers(0, 20).map(lambda n: pickle.BINPUT + bytes([n])),
    st.integers(-1, 2**31).map(lambda n: pickle.LONG_BINPUT + (n % 2**32).to_bytes(4, "little")),
    st.integers(0, 2**32 - 1).map(lambda n: pickle.BINUNICODE + n.to_bytes(4, "little")),
    st.integers(0, 2**62).map(lambda n: pickle.BINUNICODE8 + n.to_bytes(8, "little")),
    st.integers(0, 2**62).map(lambda n: pickle.FRAME + n.to_bytes(8, "little")),
    st.integers(-(2**31), 2**31 - 1).map(
        lambda n: pickle.LONG4 + n.to_bytes(4, "little", signed=True)
    ),
    st.binary(max_size=4),
)


@cases(500)
@given(
    pieces=st.lists(_PIECES, max_size=25),
    ending=st.sampled_from(
        (pickle.STOP, b"", pickle.REDUCE + pickle.STOP, pickle.BUILD + pickle.STOP)
    ),
)
def test_any_instructions(folder: Path, pieces: list[bytes], ending: bytes) -> None:
    read(folder, b"\x80\x04" + b"".join(pieces) + ending)


@cases(350)
@given(data=st.data())
def test_a_genuine_one_with_other_bytes(folder: Path, genuine: bytes, data: st.DataObject) -> None:
    words = tuple(o.code.encode("latin1") for o in pickletools.opcodes)
    read(folder, data.draw(changed_bytes(genuine, words)))


@cases(250)
@given(data=st.data())
def test_a_genuine_one_with_other_instructions(
    folder: Path, genuine: bytes, data: st.DataObject
) -> None:
    body = genuine[11:]  # without the frame, whose length would not fit
    starts = [place for _, _, place in pickletools.genops(genuine) if place >= 11]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(starts)) - 11
        end = place + data.draw(st.sampled_from((0, 0, 1, 2)))
        body = body[:place] + data.draw(_PIECES) + body[end:]
    read(folder, genuine[:2] + body)


# --- payloads ------------------------------------------------------------------------------


class Calls:
    """Unpickling it calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.made


MARK = f"__import__('builtins').{CANARY} = 1"
HANDMADE = {
    "global": b"cos\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR.",
    "stack global": _said("os") + _said("system") + b"\x93" + _said("true") + b"\x85R.",
    "inst": b"(S'touch x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch x'\no.",
    "newobj_ex": b"\x80\x04cpathlib\nPosixPath\n)}\x92.",
    "extension": b"\x80\x02\x82\x01.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "persistent": b"Pos.system\n.",
    "binary persistent": b"Nq\x00Q.",
    "dotted name": _said("torch") + _said("Size.__new__") + b"\x93.",
    "module of a module": _said("pathlib") + _said("os.system") + b"\x93.",
    "a function of torch": _said("torch") + _said("load") + b"\x93" + _said("x") + b"\x85R.",
    "a type that was made": b"ctorch\nSize\n(K\x01K\x02tR)R.",
    # Attributes of classes, of functions and of what guards the places of files.
    "slots of a class": b"cpathlib\nPosixPath\nN}" + _said("parent") + b"Ns\x86b.",
    "slots of a function": b"ctorch.serialization\n_get_layout\nN}"
    + _said("__defaults__")
    + b")s\x86b.",
    "dict of a class": b"cpathlib\nPosixPath\n}" + _said("parent") + b"Nsb.",
    "setstate": b"ctorch.distributed.checkpoint.metadata\nTensorProperties\n)\x81}b.",
    "another class": b"ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81}"
    + _said("__class__")
    + b"cpathlib\nPosixPath\nsb.",
    "enum": b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n(K\x63tR.",
    "layout": b"ctorch.serialization\n_get_layout\n(" + _said("no") + b"tR.",
    "a windows path": b"cpathlib\nWindowsPath\n(" + _said("C:/") + b"tR.",
}
PICKLED = {
    "os.system": Calls(os.system, f"touch {CANARY}"),
    "eval": Calls(eval, MARK),
    "exec": Calls(exec, MARK),
    "subprocess": Calls(subprocess.Popen, ["touch", CANARY]),
    "setattr": Calls(setattr, os, CANARY, 1),
    "partial": Calls(functools.partial, os.system, "true"),
    "inner pickle": Calls(pickle.loads, pickle.dumps(3)),
    "torch.load": Calls(torch.load, "x"),
    "reconstructor": Calls(copyreg.__newobj__, Path, "x"),
    "reduce with state": Calls(Path, "x", state={"resolve": 1}),
    "size of a path": Calls(torch.Size, [Path("x")]),
    "other objects": [
        io.BytesIO(b"x"),
        {1, 2},
        frozenset(),
        b"x",
        bytearray(b"x"),
        1.5,
        2j,
        range(3),
    ],
}


def _pickled(value: Any) -> list[bytes]:
    made = []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            made.append(pickle.dumps(value, protocol))
        except (pickle.PicklingError, TypeError):
            continue
    return made


PAYLOADS = [
    *((name, content) for name, content in HANDMADE.items()),
    *((name, content) for name, value in PICKLED.items() for content in _pickled(value)),
]


@pytest.mark.parametrize(
    ("name", "payload"), PAYLOADS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_planted_payloads_do_not_run(
    folder: Path, genuine: bytes, name: str, payload: bytes, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    inner = payload.removesuffix(pickle.STOP)
    head = 2 if inner[:1] == pickle.PROTO else 0
    for content in (
        payload,
        genuine[:2] + inner[head:] + pickle.POP + genuine[11:],  # before the genuine one
        genuine[:2] + inner[head:] + genuine[11:],
        genuine[:2] + genuine[11:-1] + inner[head:] + b".",
    ):
        read(folder, content)
    assert isinstance(read(folder, payload), CheckpointError)
    assert list(tmp_path.iterdir()) == []
    assert not hasattr(os, CANARY)


def test_states_of_objects_are_not_called_twice_or_on_anything(
    folder: Path, genuine: bytes
) -> None:
    twice = genuine[:2] + genuine[11:-1] + b"}b."
    assert "a second time" in str(read(folder, twice))


def test_a_genuine_one_still_works_in_every_protocol(folder: Path, genuine: bytes) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(pickle.loads(genuine), protocol)
        found = read(folder, content)
        assert isinstance(found, Metadata), (protocol, found)
        assert {n: tuple(e.size) for n, e in found.state_dict_metadata.items()} == {
            name: tuple(tensor.shape) for name, tensor in TENSORS.items()
        }


# --- what would be too much ----------------------------------------------------------------


def _doubled(times: int) -> bytes:
    """A tuple of a tuple … of two: small to write, for ever to hash or compare."""
    return b")" + b"".join(b"q\x00h\x00\x86" for _ in range(times))


BOMBS = {
    "memo": b"\x80\x04Nr\xff\xff\xff\x7f.",
    "memo again": b"\x80\x04" + b"Nr\xff\xff\xff\xff" * 100 + b".",
    "long string": b"\x80\x04X\xff\xff\xff\xff.",
    "long string of 8 bytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00.",
    "long bytes": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "long integer": b"\x80\x04\x8b\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    "deep": b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "deep lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "doubled key": b"\x80\x04}" + _doubled(64) + b"Ns.",
    "doubled keys": b"\x80\x04}(" + _doubled(64) + b"Nu.",
    "doubled size": b"\x80\x04ctorch\nSize\n" + _doubled(64) + b"R.",
    "doubled state": b"\x80\x04ctorch\nSize\n)\x81" + _doubled(64) + b"b.",
    "doubled argument": b"\x80\x04ctorch.serialization\n_get_layout\n" + _doubled(64) + b"\x85R.",
    "many": b"\x80\x04" + b"}\x94" * 100_000 + b".",
    "itself": b"\x80\x04]q\x00h\x00a.",
    "a state of itself": b"\x80\x04ctorch\nSize\n)\x81q\x00h\x00b.",
}
IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from mdmkit.errors import CheckpointError
from mdmkit.training.table_of_contents import NAME, read_table_of_contents

room = {room} * 2**20
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_table_of_contents(path)
    except CheckpointError as error:
        assert "MemoryError" not in str(error), (path, error)
        print(path.name)
"""


def test_bombs_end_in_an_error_in_little_memory(tmp_path: Path) -> None:
    for name, content in BOMBS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY.format(room=300), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == sorted(BOMBS)


def test_a_table_of_contents_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    error = read_or_refused(lambda: read_table_of_contents(tmp_path))
    assert "1,099,511,627,776 bytes; expected 67,108,864 at most" in str(error)


# --- claims --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (lambda m: _first(m).__setattr__("size", torch.Size([2**40, 3])), "bytes, which its files"),
        (
            lambda m: _first(m).__setattr__("size", torch.Size([2**47] * 2)),
            "bytes, which its files",
        ),
        (lambda m: _first(m).__setattr__("size", torch.Size([-4, 3])), "a size is none"),
        (lambda m: _first(m).__setattr__("chunks", None), "no list"),
        (lambda m: _first(m).chunks[0].__setattr__("sizes", torch.Size([9, 3])), "lies outside"),
        (lambda m: _first(m).chunks[0].__setattr__("sizes", torch.Size([4])), "shorter than"),
        (lambda m: _first(m).properties.__setattr__("dtype", torch.strided), "is none"),
        (lambda m: _place(m).__setattr__("relative_path", "../__0_0.distcp"), "files outside"),
        (lambda m: _place(m).__setattr__("relative_path", "/etc/passwd"), "files outside"),
        (lambda m: _place(m).__setattr__("relative_path", ""), "files outside"),
        (lambda m: _place(m).__setattr__("relative_path", "a\0b"), "null byte"),
        (lambda m: _place(m).__setattr__("relative_path", "gone"), "No such file"),
        (lambda m: _place(m).__setattr__("length", 2**40), "ends before a tensor"),
        (lambda m: _place(m).__setattr__("offset", -1), "the place of a tensor is none"),
        (lambda m: _place(m).__setattr__("transform_descriptors", ["zstd"]), "encoded"),
        (lambda m: m.__setattr__("storage_data", None), "storage_data is no table"),
        (lambda m: m.state_dict_metadata.__setitem__("x", 3), "no TensorStorageMetadata"),
    ],
)
def test_claims_that_cannot_be(
    folder: Path, genuine: bytes, claim: Callable[[Metadata], None], message: str
) -> None:
    metadata = pickle.loads(genuine)
    claim(metadata)
    assert message in str(read(folder, pickle.dumps(metadata)))


def _first(metadata: Metadata) -> TensorStorageMetadata:
    entry = metadata.state_dict_metadata["model/weight"]
    assert isinstance(entry, TensorStorageMetadata)
    return entry


def _place(metadata: Metadata) -> _StorageInfo:
    return next(iter(metadata.storage_data.values()))
