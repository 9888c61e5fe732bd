from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ReadInstruction

from mdmkit import DataError
from mdmkit.data import tables
from mdmkit.data.reading import Reading, read_documents
from mdmkit.data.slices import SplitSlice

ROWS = [f"row {i}" if i % 5 else "" for i in range(23)]
SPECS = [
    *("train", "train[:]", "train[3:]", "train[:7]", "train[6:9]", "train[-4:]", "train[:-4]"),
    *("train[-23:-22]", "train[0:23]", "train[9:4]", "train[22:]", "train[4:-4]"),
    *(
        "train[:50%]",
        "train[33%:67%]",
        "train[-10%:]",
        "train[90%:]",
        "train[:-1%]",
        "train[:100%]",
    ),
]


def slice_of(spec: str) -> SplitSlice:
    return SplitSlice.parse(spec, option="o")


def library(spec: str, total: int) -> tuple[int, int]:
    """What `datasets` makes of a slice."""
    (absolute,) = ReadInstruction.from_spec(spec).to_absolute({"train": total})
    return absolute.from_, absolute.to


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("total", [23, 24, 150, 1000])
def test_slices_mean_what_they_mean_in_datasets(spec: str, total: int) -> None:
    part = slice_of(spec)
    start, stop = part.bounds(lambda: total)
    assert (start, total if stop is None else stop) == library(spec, total)
    assert slice_of(part.name + part.rows) == part


@pytest.fixture(params=["parquet", "jsonl", "csv", "txt", "mixed"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """The rows in files of 10, 0, 6 and 7."""
    made = []
    for number, (start, stop) in enumerate([(0, 10), (10, 10), (10, 16), (16, 23)]):
        kind = request.param
        if kind == "mixed":
            kind = ("parquet", "parquet", "jsonl", "parquet")[number]
        made.append(write(tmp_path / f"{number}.{kind}", ROWS[start:stop]))
    return made


def write(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, row_group_size=4)
    elif path.suffix == ".jsonl":
        path = path.with_suffix(".jsonl.gz")
        path.write_bytes(
            gzip.compress("".join(json.dumps({"text": t}) + "\n" for t in texts).encode())
        )
    elif path.suffix == ".csv":
        path.write_text("text,id\n" + "".join(f'"{t}",1\n' for t in texts))
    else:
        path.write_text("".join(f"{t}\n" for t in texts))
    return path


@pytest.mark.parametrize("spec", SPECS)
def test_slices_are_exact_over_files(spec: str, files: list[Path]) -> None:
    start, stop = library(spec, len(ROWS))
    how: dict[str, Any] = {"documents": "line", "rows": slice_of(spec)}
    if start < stop:
        assert list(read_documents(files, Reading(**how, keep_empty=True))) == ROWS[start:stop]
    expected = [row for row in ROWS[start:stop] if row]
    if expected:
        assert list(read_documents(files, Reading(**how))) == expected
        assert list(read_documents(files, Reading(**how, limit=2))) == expected[:2]
    else:
        with pytest.raises(DataError, match="no document"):
            list(read_documents(files, Reading(**how)))


def test_files_before_a_slice_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [write(tmp_path / f"{i}.parquet", [f"{i} {j}" for j in range(9)]) for i in range(3)]
    opened = []
    real = tables._parquet

    def watched(file: Path, columns: Any, first: int) -> Any:
        opened.append((file.name, first))
        return real(file, columns, first)

    monkeypatch.setitem(tables._READERS, ".parquet", watched)  # type: ignore[arg-type]
    how = Reading(rows=slice_of("train[-8:]"))
    assert list(read_documents(made, how)) == [f"2 {j}" for j in range(1, 9)]
    assert opened == [("2.parquet", 1)]
    opened.clear()
    assert len(list(read_documents(made, Reading(rows=slice_of("train[3:9]"))))) == 6
    assert [name for name, _ in opened] == ["0.parquet", "1.parquet"]


@pytest.mark.parametrize("spec", ["train[24:]", "train[:24]", "train[-24:]", "train[3:99]"])
def test_rows_that_are_not_there(spec: str, files: list[Path]) -> None:
    how = Reading(documents="line", rows=slice_of(spec))
    with pytest.raises(DataError, match=r"train\[.*\]: there are only 23 rows"):
        list(read_documents(files, how))


@pytest.mark.parametrize(
    "text",
    ["train[", "[3:]", "train[3]", "train[a:]", "train[:5%3]", "train[10:50%]", "train[:3]x"],
)
def test_unreadable_slices(text: str) -> None:
    with pytest.raises(DataError, match=r"^o: cannot read .*; expected the name of a split"):
        slice_of(text)
    with pytest.raises(DataError, match="more than 100%"):
        slice_of("train[:101%]")
