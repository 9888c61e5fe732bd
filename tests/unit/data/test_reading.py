from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdmkit import DataError
from mdmkit.data.opening import contents_fingerprint, expand, folder_files, kind_of
from mdmkit.data.reading import Reading, documents_of, read_documents


def zstd(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstd,
}
TEXT = "first line\nsecond line\n\n\nthird — “line”\n"


def read(path: Path, **options: str) -> list[str]:
    return list(read_documents([path], Reading(**options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ("file", [TEXT]),
        ("blank_line", ["first line\nsecond line", "third — “line”"]),
        ("line", ["first line", "second line", "third — “line”"]),
    ],
)
@pytest.mark.parametrize("suffix", PACK)
def test_text_documents(tmp_path: Path, documents: str, expected: list[str], suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](TEXT.encode()))
    assert read(path, documents=documents) == expected


def test_windows_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo")
    assert read(path, documents="line") == ["one", "two"]
    assert read(path, documents="blank_line") == ["one", "two"]
    assert read(path, documents="file")[0].startswith("one")


def test_json_lines_with_another_column_and_empty_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"body": "a\u2028b"}, {"body": ""}, {"body": "  "}, {"body": "c", "id": 2}]
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n", "utf-8")
    assert read(path, column="body") == ["a\u2028b", "c"]


def test_a_folder_of_all_kinds_plain_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.txt.zst").write_bytes(zstd(b"one"))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b'id,text\n1,"two,\n2"\n2,\n'))
    (tmp_path / "c.tsv").write_text("text\tid\nthree\t3\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/d.jsonl.bz2").write_bytes(bz2.compress(b'{"text": "four"}\n'))
    pq.write_table(pa.table({"text": ["five", None]}), tmp_path / "e.parquet")
    table = pa.table({"text": pa.array(["six", "", "seven"], pa.large_string())})
    with pa.ipc.new_stream(tmp_path / "f.arrow", table.schema) as stream:
        stream.write_table(table)
    found = list(read_documents(expand(str(tmp_path), option="o"), Reading()))
    assert found == ["one", "two,\n2", "three", "four", "five", "six", "seven"]
    for name, first, rest in (("e.parquet", 1, [""]), ("b.csv.gz", 1, [""]), ("a.txt.zst", 1, [])):
        assert list(documents_of(tmp_path / name, Reading(), first=first)) == rest


def test_parquet_over_row_groups_with_nulls(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {i}" for i in range(5000)]
    table = pa.table({"id": list(range(5002)), "text": [*texts[:10], None, "", *texts[10:]]})
    pq.write_table(table, path, row_group_size=700)
    assert read(path) == texts


@pytest.mark.parametrize("documents", ["file", "line", "blank_line"])
def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, documents: str) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"good\nbad: caf\xe9\nmore")
    with pytest.raises(DataError, match=r"latin\.txt: byte 13 \(0xe9\) is not UTF-8.*iconv"):
        read(path, documents=documents)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "line 2: not JSON"),
        ('["a"]', "line 2: expected a JSON object, got list"),
        ('{"tex": "a"}', r'line 2: no column "text"; did you mean "tex"\? \(there are: tex\)'),
        ('{"text": 3}', "line 2: expected a string under 'text', got int"),
        (r'{"text": "ab\ud800"}', "line 2: half of a surrogate pair at character 2"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read(path)


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"content": ["a"] * 100, "number": list(range(100))}), path)
    with pytest.raises(DataError, match=r'no column "contents"; did you mean "content"'):
        read(path, column="contents")
    with pytest.raises(
        DataError, match="row 0: expected a string under 'number', got int; set data"
    ):
        read(path, column="number")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.parquet: not a whole parquet file"):
        read(path, column="content")


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"fine", b"caf\xe9"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"text": text}), path)
    with pytest.raises(DataError, match=r"a\.parquet: row 1: byte 3 of 'text' is not UTF-8"):
        read(path)


@pytest.mark.parametrize("suffix", list(PACK)[1:])
def test_damaged_archives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACK[suffix](b"some text " * 1000)[:-8])
    with pytest.raises(DataError, match=r"a\.txt\."):
        read(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"a\.txt\."):
        read(path)


def test_nothing_but_white_space_is_no_corpus(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(" \n\n\t\n")
    with pytest.raises(DataError, match=r"empty\.txt: no document in it"):
        read(path)


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_text("text")
    with pytest.raises(DataError, match=r"a\.docx: cannot tell what this is; expected .*\.parquet"):
        read(path)
    assert kind_of(Path("a.parquet.gz")) is None
    assert kind_of(Path("a.jsonl.gz")) == ".jsonl"


def test_expand_file_folder_and_glob_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/c.jsonl.xz", "notes.md", ".hidden/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [p.relative_to(tmp_path).as_posix() for p in expand(str(tmp_path), option="o")]
    assert found == ["a/c.jsonl.xz", "a/z.txt", "b.txt"]
    assert [p.name for p in expand(str(tmp_path / "**" / "*.txt"), option="o")] == [
        "z.txt",
        "b.txt",
    ]
    assert expand(str(tmp_path / "notes.md"), option="o") == [tmp_path / "notes.md"]


@pytest.mark.parametrize("name", ["nowhere.txt", "*.none", "folder"])
def test_expand_says_what_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"data\.corpus\.train: nothing to read at .*; expected"):
        expand(str(tmp_path / name), option="data.corpus.train")


def test_fingerprint_follows_content_order_and_options(tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text("a")
    b.write_text("b")
    first = contents_fingerprint([a, b], column="text")
    assert contents_fingerprint([a, b], column="text") == first
    assert contents_fingerprint([b, a], column="text") != first
    assert contents_fingerprint([a, b], column="body") != first
    moved = a.rename(tmp_path / "c.txt")
    assert contents_fingerprint([moved, b], column="text") == first
    moved.write_text("A")
    assert contents_fingerprint([moved, b], column="text") != first
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        contents_fingerprint([tmp_path / "gone.txt"])


def test_the_same_bytes_under_another_ending_are_other_documents(tmp_path: Path) -> None:
    found = set()
    for name in ("x.txt", "x.jsonl", "x.csv", "x.txt.gz"):
        path = tmp_path / name
        path.write_bytes(b'{"text": "a"}\n')
        found.add(contents_fingerprint([path]))
    assert len(found) == 4
    (tmp_path / "y.txt").write_bytes(b'{"text": "a"}\n')
    assert contents_fingerprint([tmp_path / "y.txt"]) in found  # but for that, names mean nothing


def test_a_folder_that_is_a_link_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "b.txt").write_text("b")
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "a.txt").write_text("a")
    (tmp_path / "near" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "near" / "loop").symlink_to(tmp_path / "near")
    assert sorted(folder_files(tmp_path / "near")) == ["a.txt", "far/b.txt"]
