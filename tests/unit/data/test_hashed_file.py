from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from mdmkit.data import hashed_file
from mdmkit.data.hashed_file import Content, DamagedError, HashedFile, verify


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_file, "PIECE", 16)
    monkeypatch.setattr(hashed_file, "_READ", 5)


def pieces(data: bytes) -> tuple[str, ...]:
    return tuple(
        hashlib.sha256(data[start : start + 16]).hexdigest() for start in range(0, len(data), 16)
    )


def numbers(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype="<u2")


@pytest.mark.parametrize("sizes", [[], [0], [3], [8], [7, 1, 8], [40, 1], [1] * 20])
def test_pieces_are_those_of_the_whole_file(tmp_path: Path, sizes: list[int]) -> None:
    file = HashedFile(tmp_path / "a")
    for size in sizes:
        file.write(numbers(size))
    content = file.sync()
    file.close()
    data = (tmp_path / "a").read_bytes()
    assert data == b"".join(numbers(size).tobytes() for size in sizes)
    assert content == Content(size=len(data), sha256=pieces(data))
    assert Content.from_json(content.to_json()) == content
    verify(tmp_path / "a", content)


@pytest.mark.parametrize("begun", [0, 5, 8, 24, 29])
@pytest.mark.parametrize("torn", [0, 3, 100])
def test_going_on_cuts_off_what_came_after(tmp_path: Path, begun: int, torn: int) -> None:
    file = HashedFile(tmp_path / "a")
    file.write(numbers(begun))
    content = file.sync()
    file.write(numbers(torn, 1000))
    file.close()
    again = HashedFile(tmp_path / "a", content)
    again.write(numbers(4, begun))
    found = again.sync()
    again.close()
    data = numbers(begun + 4).tobytes()
    assert (tmp_path / "a").read_bytes() == data
    assert found == Content(size=len(data), sha256=pieces(data))


@pytest.mark.parametrize("place", [0, 15, 16, 40])
def test_a_flipped_byte_is_found_and_its_piece_named(tmp_path: Path, place: int) -> None:
    data = bytearray(range(41))
    content = Content(size=41, sha256=pieces(bytes(data)))
    data[place] ^= 1
    (tmp_path / "a").write_bytes(data)
    for check in (verify, HashedFile):
        with pytest.raises(DamagedError, match=f"bytes from {place // 16 * 16} on"):
            check(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == data


def test_what_is_too_short_or_not_fully_listed_is_damaged(tmp_path: Path) -> None:
    data = bytes(range(41))
    content = Content(size=41, sha256=pieces(data))
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DamagedError, match="hashes of a is not whole"):
        verify(tmp_path / "a", evolve(content, sha256=content.sha256[:-1]))
    (tmp_path / "a").write_bytes(data[:-1])
    with pytest.raises(DamagedError, match="a has 40 bytes, expected 41"):
        verify(tmp_path / "a", content)
