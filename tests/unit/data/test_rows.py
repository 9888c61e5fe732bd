from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdmkit import DataError
from mdmkit.data.rows import Columns, Row, RowSource, read_rows
from mdmkit.data.tables import row_count, rows_of

QUESTIONS: list[dict[str, Any]] = [
    {"id": i, "question": f"Why {i}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}
    for i in range(2500)
]


def values(path: Path, **options: Any) -> list[Any]:
    return [dict(row.values) for row in rows_of(path, **options)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=700)
    elif path.name == "stream.arrow":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table, max_chunksize=900)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=900)
    else:
        content = "\n\n".join(json.dumps(row) for row in rows).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


KINDS = ("a.parquet", "a.arrow", "stream.arrow", "a.jsonl", "a.jsonl.gz")


@pytest.mark.parametrize("name", KINDS)
def test_nested_rows_from_any_row_on(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, QUESTIONS)
    assert values(path) == QUESTIONS
    assert row_count(path) == 2500
    for first in (1, 699, 700, 1801, 2499, 2500, 9999):
        assert values(path, first=first) == QUESTIONS[first:]


@pytest.mark.parametrize(("name", "where"), [("a.jsonl", "line 5"), ("a.parquet", "row 2")])
def test_a_row_knows_where_it_stands(tmp_path: Path, name: str, where: str) -> None:
    path = write(tmp_path / name, QUESTIONS[:4])
    row = list(read_rows([path]))[2]
    assert row.where == f"{path}: {where}"
    with pytest.raises(DataError, match=rf'{where}: no column "questio"; did you mean "question"'):
        row.text("questio")
    with pytest.raises(DataError, match=rf"{where}: expected a string under 'id', got int$"):
        row.text("id")


def test_only_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", QUESTIONS[:3])
    read = list(read_rows([path], columns=Columns(names=("question",))))
    assert [dict(row.values) for row in read] == [{"question": f"Why {i}?"} for i in range(3)]
    dotted = write(tmp_path / "b.parquet", [{"a.b": "dotted", "a": {"b": "nested"}}])
    with pytest.raises(DataError, match=r'no column "choices\.text"'):
        list(read_rows([path], columns=Columns(names=("choices.text",))))
    assert next(read_rows([dotted], columns=Columns(names=("a.b",)))).values["a.b"] == "dotted"


def test_no_row_and_no_table(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv"):
        (tmp_path / name).write_text("\n")
        with pytest.raises(DataError, match=rf"{name}: no row in it"):
            list(read_rows([tmp_path / name]))
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match=r"\.txt files have no rows"):
        list(read_rows([tmp_path / "a.txt"]))


@pytest.mark.parametrize("name", ["a.arrow", "stream.arrow", "a.parquet"])
def test_tables_that_are_cut_short(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, QUESTIONS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=name):
        list(read_rows([path]))


# --- CSV -----------------------------------------------------------------------------------


def test_csv_says_what_was_written(tmp_path: Path) -> None:
    texts = [
        'plain, with "quotes"',
        "two\nlines\r\nand more",
        "",
        "007",
        "—",
        " spaces ",
        "x" * 200_000,
    ]
    for name, separator in (("a.csv", ","), ("b.tsv", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter=separator)
            table.writerow(["id", "text"])
            table.writerows(enumerate(texts))
        read = list(read_rows([tmp_path / name]))
        assert [row.text("text") for row in read] == texts
        assert [row.values["id"] for row in read] == [str(i) for i in range(len(texts))]
        assert [row.place for row in read[:3]] == [2, 5, 6]
        assert values(tmp_path / name, first=4) == [dict(row.values) for row in read[4:]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,text\n1,x\n2\n", r"line 3: 1 fields; expected 2, as in the header \(a, text\)"),
        ("a,text\n1,x,y\n", "line 2: 3 fields; expected 2"),
        ('a,text\n1,"x"y\n', "line 2: .*; expected fields separated by ','"),
        ('a,text\n1,x\n2,"open\n\n', "line 4: unexpected end of data"),
        ("a,a\n1,x\n", "line 1: the header names a more than once"),
        ("a,txt\n1,x\n", 'line 1, the header: no column "text"; did you mean "txt"'),
        ("a,text\n1,caf\udce9\n", r"byte 12 \(0xe9\) is not UTF-8"),
    ],
)
def test_bad_csv(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"a\.csv: {message}"):
        list(read_rows([path], columns=Columns(names=("text",))))


# --- a split of a data set on the hub ------------------------------------------------------


def test_rows_of_a_local_copy(tmp_path: Path) -> None:
    folder = tmp_path / "ARC-Easy"
    folder.mkdir()
    write(folder / "validation-00001-of-00002.parquet", QUESTIONS[2:4])
    write(folder / "validation-00000-of-00002.parquet", QUESTIONS[:2])
    of_folder = RowSource(dataset="allenai/ai2_arc", config="ARC-Easy", path=str(tmp_path))
    assert [dict(row.values) for row in of_folder.rows()] == QUESTIONS[:4]
    assert of_folder.describe() == {
        "source": "allenai/ai2_arc",
        "config": "ARC-Easy",
        "hub_split": "validation",
        "local_copy": True,
        "files": ["validation-00000-of-00002.parquet", "validation-00001-of-00002.parquet"],
    }
    file = write(tmp_path / "questions.jsonl", QUESTIONS[:4])
    of_file = RowSource(dataset="allenai/ai2_arc", config="ARC-Easy", path=str(file))
    assert [dict(row.values) for row in of_file.rows()] == QUESTIONS[:4]
    before = of_file.fingerprint()
    assert before != of_folder.fingerprint()
    write(file, QUESTIONS[:3])
    assert of_file.fingerprint() != before


def test_rows_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path))
    hub = RowSource(dataset="ybisk/piqa", option="evaluators.piqa.path")
    with pytest.raises(
        DataError, match=r"ybisk/piqa.*cannot be reached.*--set evaluators\.piqa\.p"
    ):
        next(hub.rows())
    gone = RowSource(dataset="ybisk/piqa", path=str(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="path: there is nothing at"):
        next(gone.rows())
    assert Row(values={"a": None}, file=Path("a.parquet"), place=0).text("a") == ""
    with pytest.raises(DataError, match=r"a\.jsonl: line 1: expected a string under 'a', got None"):
        Row(values={"a": None}, file=Path("a.jsonl"), place=1).text("a")
