from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdmkit.files import write_atomic
from mdmkit.runs.tail import Tail


def test_lines_come_once_and_a_torn_one_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Tail(path) as tail:
        assert tail.look().lines == []  # it is not there yet
        path.write_bytes(b"one\ntwo\nthr")
        assert tail.look().lines == [b"one", b"two"]
        assert tail.look().lines == []
        with path.open("ab") as file:
            file.write(b"ee\n")
        assert tail.look().lines == [b"three"]


@pytest.mark.parametrize("how", ["replaced", "cut", "replaced by a longer one"])
def test_a_file_that_a_resumed_run_cut_is_read_from_its_begin(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1\n2\n3\n4\n")
    with Tail(path) as tail:
        tail.look()
        if how == "cut":
            os.truncate(path, 4)
        else:
            write_atomic(path, b"1\n2\n" if how == "replaced" else b"1\n2\n5\n6\n7\n")
        news = tail.look()
        assert news.anew
        assert news.lines[:2] == [b"1", b"2"]
        assert not tail.look().anew


def test_lines_one_after_the_other_are_not_all_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"line\n" * 100)
    read: list[int] = []
    pread = os.pread

    def reading(descriptor: int, size: int, offset: int) -> bytes:
        read.append(offset)
        return pread(descriptor, size, offset)

    monkeypatch.setattr("mdmkit.runs.tail._CHUNK", 20)
    monkeypatch.setattr(os, "pread", reading)
    with Tail(tmp_path / "log") as tail:
        lines = tail.lines()
        assert [next(lines) for _ in range(5)] == [b"line"] * 5
        assert read == [0, 20]
        assert len(list(lines)) == 95


def test_a_file_that_vanishes_and_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"1\n")
    with Tail(path) as tail:
        tail.look()
        path.unlink()
        news = tail.look()
        assert (news.lines, news.anew) == ([], True)
        path.write_bytes(b"2\n")
        assert tail.look().lines == [b"2"]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with Tail(path) as tail, pytest.raises(OSError, match="is no file"):
            tail.look()


def test_a_line_without_end_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdmkit.runs.tail._LONGEST", 10)
    monkeypatch.setattr("mdmkit.runs.tail._CHUNK", 8)
    (tmp_path / "log").write_bytes(b"x" * 40 + b"\nnext\n")
    with Tail(tmp_path / "log") as tail:
        assert tail.look().lines[-1] == b"next"
        assert len(tail.look().lines) == 0
