from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from mdmkit.files import sha256_file, write_atomic, write_json


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_bytes_text_and_functions_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_atomic(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"

    def fill(file: BinaryIO) -> None:
        file.write(b"one")
        file.write(b"two")

    write_atomic(path, fill)
    assert path.read_bytes() == b"onetwo"
    assert names(tmp_path) == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_interruption_leaves_no_temporary_file(tmp_path: Path) -> None:
    def interrupt(file: BinaryIO) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", interrupt)
    assert names(tmp_path) == []


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    seen = []

    def slow(file: BinaryIO) -> None:
        file.write(b"ne")
        file.flush()
        seen.append(path.read_text())
        file.write(b"w")

    write_atomic(path, slow)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "nowhere" / "file", b"")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_the_user_asks_for(tmp_path: Path, mask: int, mode: int) -> None:
    old = os.umask(mask)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_json_is_readable_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"name": "größer", "value": 0.1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "größer", "value": 0.1}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": math.nan})
    assert json.loads(path.read_text(encoding="utf-8"))["value"] == 0.1


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"mdmkit" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"mdmkit" * 100_000).hexdigest()
