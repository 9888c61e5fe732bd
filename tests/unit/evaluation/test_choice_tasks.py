from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mdmkit.builtin.evaluators.choice import LastWord, MultipleChoice
from mdmkit.builtin.evaluators.choice.tasks import TASKS, without_headers
from mdmkit.data.rows import read_rows
from mdmkit.errors import DataError
from mdmkit.scoring.questions import Question
from mdmkit.testing import evaluation_context

ARC = {
    "id": "1",
    "question": "What falls?",
    "choices": {"text": ["rain", "the sky", "a bee"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
PIQA = {"goal": "Open a jar", "sol1": "turn the lid", "sol2": "eat the lid ", "label": 0}
SIQA = {
    "context": "Kim ran.",
    "question": "How does Kim feel?",
    "answerA": "tired",
    "answerB": "blue",
    "answerC": "new",
    "label": "1",
}
HELLASWAG = {
    "activity_label": "Polishing shoes",
    "ctx_a": "[header] How to polish shoes [title] Clean them.",
    "ctx_b": "then you",
    "endings": ["wait. [substeps] Rest.", "eat", "sleep", "swim"],
    "label": "2",
}
WINOGRANDE = {
    "sentence": "The cup broke the plate because the _ was hard.",
    "option1": "cup",
    "option2": "plate",
    "answer": "2",
}
ROWS = {
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "piqa": PIQA,
    "siqa": SIQA,
    "hellaswag": HELLASWAG,
    "winogrande": WINOGRANDE,
}


def read(task: str, row: dict[str, Any], folder: Path) -> Question:
    path = folder / f"{task}.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")  # the row is on line 2
    (found,) = read_rows([path])
    return TASKS[task].question(found, 7)


def contexts(question: Question) -> list[str]:
    return [option.context for option in question.options]


def answers(question: Question) -> list[str]:
    return [option.answer for option in question.options]


def test_every_task_can_be_named() -> None:
    assert set(TASKS) == set(ROWS)
    for task in TASKS:
        MultipleChoice(task=task)


def test_arc(tmp_path: Path) -> None:
    question = read("arc_easy", ARC, tmp_path)
    assert contexts(question) == ["Question: What falls?\nAnswer:"] * 3
    assert answers(question) == [" rain", " the sky", " a bee"]
    assert (question.number, question.right, question.premise) == (7, 1, "Answer:")
    assert question.options[1].utf8_bytes == len("the sky")
    digits = ARC | {"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
    assert read("arc_challenge", digits, tmp_path).right == 1


def test_piqa(tmp_path: Path) -> None:
    question = read("piqa", PIQA, tmp_path)
    assert contexts(question) == ["Question: Open a jar\nAnswer:"] * 2
    assert answers(question) == [" turn the lid", " eat the lid "]
    assert (question.right, question.premise) == (0, "Answer:")
    assert read("piqa", PIQA | {"label": "1"}, tmp_path).right == 1  # CSV has strings


def test_siqa(tmp_path: Path) -> None:
    question = read("siqa", SIQA, tmp_path)
    assert contexts(question) == ["Q: Kim ran. How does Kim feel?\nA:"] * 3
    assert answers(question) == [" tired", " blue", " new"]
    assert (question.right, question.premise) == (0, "A:")


def test_hellaswag(tmp_path: Path) -> None:
    question = read("hellaswag", HELLASWAG, tmp_path)
    expected = "Polishing shoes: How to polish shoes. Clean them. Then you"
    assert contexts(question) == [expected] * 4
    assert answers(question) == [" wait. Rest.", " eat", " sleep", " swim"]
    assert (question.right, question.premise) == (2, "you")
    assert without_headers(" [a] b [title] c  d") == " b. c d"


def test_winogrande(tmp_path: Path) -> None:
    question = read("winogrande", WINOGRANDE, tmp_path)
    begun = "The cup broke the plate because the "
    assert contexts(question) == [begun + "cup", begun + "plate"]
    assert answers(question) == [" was hard."] * 2
    assert (question.right, question.premise) == (1, None)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("arc_easy", {"answerKey": ""}, "no right answer under 'answerKey'"),
        ("arc_easy", {"answerKey": "D"}, "'D' under 'answerKey'; expected one of A, B, C"),
        ("arc_easy", {"choices": ["a", "b"]}, "expected a record with text and label"),
        ("arc_easy", {"choices": {"text": ["a"]}}, "expected a record with text and label"),
        ("arc_easy", {"choices": {"text": ["a"], "label": ["A"]}}, "at least two strings"),
        (
            "arc_easy",
            {"choices": {"text": ["a", "b"], "label": ["A", "B", "C"]}},
            "2 choices with 3 labels",
        ),
        ("arc_easy", {"question": 3}, "expected a string under 'question'"),
        ("piqa", {"label": -1}, "choose a split or file whose answers are published"),
        ("piqa", {"label": None}, "no right answer under 'label'"),
        ("piqa", {"label": 2}, "2 under 'label'; expected one of 0, 1"),
        ("piqa", {"label": True}, "True under 'label'"),
        ("siqa", {"label": "0"}, "'0' under 'label'; expected one of 1, 2, 3"),
        ("hellaswag", {"label": ""}, "no right answer"),
        ("hellaswag", {"endings": "wait"}, "at least two strings under endings"),
        ("winogrande", {"answer": ""}, "no right answer"),
        ("winogrande", {"sentence": "no blank"}, "a sentence with _ and words after it"),
        ("winogrande", {"sentence": "ends with _ "}, "a sentence with _ and words after it"),
    ],
)
def test_bad_rows_are_told_with_file_and_line(
    task: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read(task, ROWS[task] | changes, tmp_path)
    assert f"{task}.jsonl: line 2: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_column_is_told(task: str, tmp_path: Path) -> None:
    for column in set(ROWS[task]) - {"id"}:
        row = {name: value for name, value in ROWS[task].items() if name != column}
        with pytest.raises(DataError, match=f'line 2: no column "{column}"'):
            read(task, row, tmp_path)


def test_a_set_that_cannot_be_had_names_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MDMKIT_CACHE_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"(?s)Rowan/hellaswag.*evaluators\.<label>\.path"):
        MultipleChoice(task="hellaswag").build(evaluation_context())
    with pytest.raises(DataError, match=r"(?s)lambada_openai.*evaluators\.<label>\.path"):
        LastWord().build(evaluation_context())


def test_a_folder_in_the_hubs_layout(tmp_path: Path) -> None:
    folder = tmp_path / "ARC-Easy"
    folder.mkdir()
    for split, count in (("validation", 3), ("test", 4)):
        rows = (json.dumps(ARC) + "\n") * count
        (folder / f"{split}-00000-of-00001.jsonl").write_text(rows)
    for split, count in ((None, 4), ("validation", 3)):
        task = TASKS["arc_easy"]
        source = task.source(split, str(tmp_path))
        assert len(list(source.rows())) == count
        assert source.describe()["hub_split"] == (split or "test")


@pytest.mark.parametrize(("task", "count", "right"), [("arc_easy", 570, 4), ("piqa", 1838, 2)])
def test_the_sets_themselves(task: str, count: int, right: int) -> None:
    shared = os.environ.get("MDMKIT_SHARED_DATA")
    path = Path(shared or "", "choice", f"{task}.validation.jsonl")
    if not shared or not path.is_file():
        pytest.skip("needs a copy of the set: MDMKIT_SHARED_DATA names no folder that has it")
    source = TASKS[task].source(None, str(path))
    questions = [TASKS[task].question(row, i) for i, row in enumerate(source.rows())]
    assert len(questions) == count
    assert {question.right for question in questions} == set(range(right))
    assert all(len(question.options) >= 2 for question in questions)
    assert all(option.utf8_bytes for question in questions for option in question.options)
