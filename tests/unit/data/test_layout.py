from __future__ import annotations

import pytest

from mdmkit.data.layout import expected_layout, split_files


@pytest.mark.parametrize(
    ("names", "config", "expected"),
    [
        (["c/train/1.parquet", "c/train/0.parquet", "c/test/0.parquet"], "c", [1, 0]),
        (["c/train-00000-of-1.parquet", "d/train-00000-of-1.parquet"], "c", [0]),
        (["train/0000.parquet", "validation/0000.parquet"], "c", [0]),
        (["data/train-0.parquet", "data/test-0.parquet"], None, [0]),
        (["train-0-of-2.jsonl", "train-1-of-2.jsonl", "training.jsonl"], None, [0, 1]),
        (["train.txt.gz", "test.txt"], None, [0]),
        (["c/train/0.parquet", "train/0.parquet"], None, [1]),
        (["c/train/deeper/0.parquet", "README.md", "train.docx"], "c", []),
    ],
)
def test_layouts(names: list[str], config: str | None, expected: list[int]) -> None:
    assert split_files(names, config=config, split="train") == sorted(names[i] for i in expected)


def test_names_are_not_patterns() -> None:
    assert split_files(["aXb/train/0.txt", "a.b/train/0.txt"], config="a.b", split="train") == [
        "a.b/train/0.txt"
    ]
    assert split_files(["abc/train/0.txt"], config="a*", split="train") == []
    assert split_files(["train/0.txt"], config=None, split=".*") == []


def test_the_layouts_in_words() -> None:
    assert "plain_text/test/*" in expected_layout("plain_text", "test")
    assert "<config>" not in expected_layout(None, "test")
