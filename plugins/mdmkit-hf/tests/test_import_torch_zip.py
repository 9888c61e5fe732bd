"""Files of torch.save are read, and nothing in them is run."""

from __future__ import annotations

import collections
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mdmkit

pytest.importorskip("mdmkit_hf", reason="not installed: pip install -e plugins/mdmkit-hf")

from mdmkit_hf.importing import torch_zip
from mdmkit_hf.importing.torch_zip import Pointer, Stub, TorchFile


def saved(path: Path, content: Any) -> TorchFile:
    torch.save(content, path)
    return TorchFile.open(path)


def with_pickle(path: Path, text: bytes, **files: bytes) -> Path:
    """A file of torch.save whose pickle is `text`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        for name, content in files.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_come_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = (torch.randn(5, 7, generator=torch.Generator().manual_seed(1)) * 3).to(dtype)
    file = saved(tmp_path / "a.pt", {"a": tensor, "b": tensor.T[2:, 1:], "c": tensor[:0]})
    for name, expected in (("a", tensor), ("b", tensor.T[2:, 1:]), ("c", tensor[:0])):
        pointer = file.content[name]
        assert pointer.shape == tuple(expected.shape)
        read = file.read(pointer)
        assert read.dtype == dtype
        assert torch.equal(read, expected)


class Thing:
    """Something that pickles by its class and attributes."""

    def __init__(self) -> None:
        self.a = 3


class Words(dict[str, int]):
    """A dictionary of its own class."""


def test_what_is_no_tensor_is_kept_without_being_made(tmp_path: Path) -> None:
    content = saved(
        tmp_path / "a.pt",
        {
            "ordered": collections.OrderedDict(x=1),
            "plain": [1, 2.5, "three", None, (True, b"\x00"), {4}],
            "thing": Thing(),
            "words": Words(a=1),
            "counted": collections.Counter("aab"),
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "path": Path("a/b"),
        },
    ).content
    assert content["ordered"] == {"x": 1}
    assert content["plain"][:4] == [1, 2.5, "three", None]
    assert isinstance(content["parameter"], Pointer)
    for name in ("thing", "words", "counted", "path"):
        assert isinstance(content[name], Stub)
    assert content["thing"].name.endswith("Thing")
    assert content["thing"].state == [{"a": 3}]
    assert content["words"].items == {"a": 1}


HEAD = b"\x80\x02"
PAYLOADS = {
    "REDUCE": lambda c: HEAD + b"cos\nsystem\n" + b"X" + struct.pack("<I", len(c)) + c + b"\x85R.",
    "INST": lambda c: b"(S'" + c + b"'\nios\nsystem\n.",
    "OBJ": lambda c: b"(cos\nsystem\nS'" + c + b"'\no.",
    "NEWOBJ": lambda c: (
        HEAD + b"csubprocess\nPopen\nX" + struct.pack("<I", len(c)) + c + b"\x85\x81."
    ),
    "builtins": lambda c: (
        HEAD + b"cbuiltins\nexec\nX" + struct.pack("<I", len(c) + 24)
        + b"import os; os.system(" + b'"' + c + b'"' + b")" + b"\x85R."
    ),
    "STACK_GLOBAL": lambda c: (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(c)]) + c + b"\x85R."
    ),
    "BUILD": lambda c: (
        HEAD + b"ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__K\x01\x85s"
        + b"bcos\nsystem\nX" + struct.pack("<I", len(c)) + c + b"\x85R."
    ),
}  # fmt: skip


def opened(path: Path) -> Any:
    """What is in a file; None where it is refused."""
    try:
        return TorchFile.open(path).content
    except mdmkit.DataError as error:
        if "refused" not in str(error):
            raise
        return None


@pytest.mark.parametrize("kind", PAYLOADS)
def test_planted_payloads_never_run(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "m"
    text = PAYLOADS[kind](f"touch {mark}".encode())
    path = with_pickle(tmp_path / "a.pt", text)
    content = opened(path)
    assert content is None or isinstance(content, Stub)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["REDUCE", "INST", "OBJ", "STACK_GLOBAL", "builtins"])
def test_they_are_real_payloads(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "m"
    pickle.loads(PAYLOADS[kind](f"touch {mark}".encode()))
    assert mark.exists()


HUGE = {
    "a memo far away": HEAD + b"Nr\xff\xff\xff\xff0N.",
    "bytes that are not there": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b".",
    "text that is not there": b"\x80\x04\x8d" + struct.pack("<Q", 2**36) + b".",
    "a long number that is not there": HEAD + b"\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a name of the process's registry": HEAD + b"\x82\x01.",
    "nothing": b"",
    "a frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
}
HARMLESS = {"a memo far away", "a frame that is not there"}
"""In Python's reader; that in C makes room for every memo before the first."""


@pytest.mark.parametrize("case", HUGE)
def test_sizes_that_a_file_only_claims_take_no_memory(tmp_path: Path, case: str) -> None:
    path = with_pickle(tmp_path / "a.pt", HUGE[case])
    if case in HARMLESS:
        assert TorchFile.open(path).content is None
    else:
        with pytest.raises(mdmkit.DataError, match="refused"):
            TorchFile.open(path)


def test_deep_nesting_is_no_crash(tmp_path: Path) -> None:
    depth = 200_000
    path = with_pickle(tmp_path / "a.pt", HEAD + b"]" * depth + b"a" * (depth - 1) + b".")
    assert TorchFile.open(path).content is not None


def shared_tuple(times: int) -> bytes:
    """A pickle of a tuple of twice the same tuple of twice the same tuple, and so on."""
    return b")q\x00" + b"".join(b"0h\x00h\x00\x86q\x00" for _ in range(times))


COSTLY = {
    "a key whose hash takes for ever": HEAD + b"}" + shared_tuple(18) + b"Ns.",
    "keys of that kind": HEAD + b"}(" + shared_tuple(18) + b"Nu.",
    "a dictionary of them": HEAD + b"(" + shared_tuple(18) + b"Nd.",
    "a set of them": b"\x80\x04\x8f(" + shared_tuple(18) + b"\x90.",
    "a frozen set of them": b"\x80\x04(" + shared_tuple(18) + b"\x91.",
    "a list copied into dictionaries": (
        HEAD + b"ccollections\nOrderedDict\nq\x00"
        + b"]q\x01(" + b"".join(b"K%cN\x86" % n for n in range(250)) + b"e"
        + b"(" + b"h\x00h\x01\x85R" * 2000 + b"l."
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COSTLY)
def test_small_files_take_neither_time_nor_memory(tmp_path: Path, case: str) -> None:
    path = with_pickle(tmp_path / "a.pt", COSTLY[case])
    tracemalloc.start()
    try:
        content = TorchFile.open(path).content
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2**22
    kept = content if isinstance(content, list) else [content]
    assert all(isinstance(entry, Stub) or entry == {} for entry in kept)


def test_long_names_are_refused(tmp_path: Path) -> None:
    path = with_pickle(tmp_path / "a.pt", HEAD + b"ca\n" + b"b" * 1000 + b"\n)R.")
    with pytest.raises(mdmkit.DataError, match="too long"):
        TorchFile.open(path)


def reference(path: Path, **changes: Any) -> Path:
    """One tensor of four numbers, whose description in the pickle is changed."""
    asked = {"key": "0", "numel": 4, "offset": 0, "size": (2, 2), "stride": (2, 1)} | changes

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            arguments = asked["offset"], asked["size"], asked["stride"], False, {}
            return torch._utils._rebuild_tensor_v2, (Storage(), *arguments)

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            if not isinstance(found, Storage):
                return None
            return "storage", torch.FloatStorage, asked["key"], "cpu", asked["numel"]

    with (path.parent / "pickle").open("wb") as file:
        Pickler(file, 2).dump(Tensor())
    text = (path.parent / "pickle").read_bytes()
    return with_pickle(path, text, **{"0": struct.pack("<4f", 1, 2, 3, 4)})


def test_a_tensor_is_what_its_description_says(tmp_path: Path) -> None:
    file = TorchFile.open(reference(tmp_path / "a.pt", stride=(1, 2)))
    assert file.read(file.content).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"offset": 1}, "beyond its storage"),
        ({"stride": (2**40, 1)}, "beyond its storage"),
        ({"size": (2**32,), "stride": (0,)}, "more elements than its storage"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "whose shape is none"),
        ({"size": (0, *[2**61] * 7), "stride": (1,) * 8}, "tensor '0': .*overflow"),
        ({"size": (2, -2)}, "whose shape is none"),
        ({"size": (2, "2")}, "whose shape is none"),
        ({"size": (4,)}, "with shape"),
        ({"numel": 2**40}, "has 16 bytes, expected"),
        ({"key": "1"}, "no item named"),
        ({"key": "../0"}, "no item named"),
        ({"numel": 3, "size": (3,), "stride": (1,)}, "more than 12 bytes"),
    ],
)
def test_tensors_that_do_not_fit_their_bytes(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    def read() -> object:
        file = TorchFile.open(reference(tmp_path / "a.pt", **changes))
        return file.read(file.content)

    with pytest.raises(mdmkit.DataError, match=says):
        read()


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps({"a": 1}))  # how torch saved before its version 1.6
    with pytest.raises(mdmkit.DataError, match=r"refused \(BadZipFile"):
        TorchFile.open(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N." + b" " * 10_000)
    with pytest.raises(mdmkit.DataError, match="is compressed"):
        TorchFile.open(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(mdmkit.DataError, match="big-endian"):
        TorchFile.open(path)
    monkeypatch.setattr(torch_zip, "LARGEST_PICKLE", 10)
    with pytest.raises(mdmkit.DataError, match="more than 10 bytes"):
        TorchFile.open(with_pickle(path, HEAD + b"N" * 10 + b"."))
    with pytest.raises(mdmkit.DataError, match="cannot be read"):
        TorchFile.open(tmp_path / "none.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("fuzz") / "a.pt"
    content = {"state_dict": collections.OrderedDict(a=torch.ones(3)), "thing": Thing(), "n": [1]}
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        return path, archive.read("a/data.pkl")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_pickles_are_read_or_refused(
    whole: tuple[Path, bytes], data: st.DataObject
) -> None:
    path, text = whole
    changed = bytearray(text)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    changed = changed or bytearray(b".")
    opened(with_pickle(path.with_name("b.pt"), bytes(changed)))  # raises nothing else
    assert {file.name for file in path.parent.iterdir()} == {"a.pt", "b.pt"}
