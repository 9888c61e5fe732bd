"""The tasks: where each is on the hub, and how a row of it becomes a question.

Formats are those in common use, of EleutherAI's lm-evaluation-harness (lm_eval/tasks/arc,
hellaswag, piqa, siqa, winogrande), zero-shot; what differs stands with the task. An answer is
joined to its context by one space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import frozen

from mdmkit.builtin.evaluators.choice.rows import fields, one_of, texts, value
from mdmkit.data.rows import Row, RowSource
from mdmkit.errors import DataError
from mdmkit.protocols import Split
from mdmkit.scoring.questions import Option, Question


@frozen(kw_only=True)
class Task:
    """A multiple-choice task.

    Attributes:
        dataset, config, revision: on the hub; a revision that holds parquet.
        split: the one that is measured: the test split where its answers are published.
        template: version of the prompt's format; it grows whenever a prompt changes.
        question: makes a question of a row and its number.
        same_answer: whether the answer is the same for all options and the contexts differ; all
            normalisations of its score then choose alike.
    """

    dataset: str
    config: str | None = None
    revision: str = "main"
    split: Split = "validation"
    template: int = 1
    question: Callable[[Row, int], Question]
    same_answer: bool = False

    def source(self, split: Split | None, path: str | None) -> RowSource:
        """Its rows, from the hub or from a local file or folder."""
        return RowSource(
            dataset=self.dataset,
            config=self.config,
            revision=self.revision,
            split=split or self.split,
            path=path,
            option="evaluators.<label>.path",
        )


def after(context: str, answers: list[str], *, number: int, right: int, premise: str) -> Question:
    """A question whose answers go on from one context."""
    options = tuple(Option(context=context, answer=f" {answer}") for answer in answers)
    return Question(number=number, options=options, right=right, premise=premise)


def arc(row: Row, number: int) -> Question:
    """ARC (arXiv 1803.05457): 3 to 5 answers, labelled by letters or by digits."""
    found, given = fields(row, "choices", ("text", "label"))
    answers, labels = texts(row, "choices.text", found), texts(row, "choices.label", given)
    if len(answers) != len(labels):
        raise DataError(f"{row.where}: {len(answers)} choices with {len(labels)} labels")
    return after(
        f"Question: {row.text('question')}\nAnswer:",
        answers,
        number=number,
        right=one_of(row, "answerKey", labels),
        premise="Answer:",
    )


def piqa(row: Row, number: int) -> Question:
    """PIQA (arXiv 1911.11641): which of two ways reaches a goal."""
    return after(
        f"Question: {row.text('goal')}\nAnswer:",
        [row.text("sol1"), row.text("sol2")],
        number=number,
        right=one_of(row, "label", ("0", "1")),
        premise="Answer:",
    )


def siqa(row: Row, number: int) -> Question:
    """Social IQa (arXiv 1904.09728): three answers, labelled 1 to 3."""
    return after(
        f"Q: {row.text('context')} {row.text('question')}\nA:",
        [row.text(f"answer{letter}") for letter in "ABC"],
        number=number,
        right=one_of(row, "label", ("1", "2", "3")),
        premise="A:",
    )


def hellaswag(row: Row, number: int) -> Question:
    """HellaSwag (arXiv 1905.07830): how a description goes on.

    The bare premise is the last word of the context, as in the code of arXiv 2104.08315.
    """
    endings = texts(row, "endings", value(row, "endings"))
    begun = f"{row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
    context = without_headers(f"{row.text('activity_label')}: {begun}")
    return after(
        context,
        [without_headers(ending) for ending in endings],
        number=number,
        right=one_of(row, "label", [str(i) for i in range(len(endings))]),
        premise=context.rpartition(" ")[2],
    )


def without_headers(text: str) -> str:
    """WikiHow's ``[title]`` becomes a full stop, every other ``[header]`` nothing.

    >>> without_headers("Polish: [header] How to shine [title] Clean it.  Then ")
    'Polish: How to shine. Clean it. Then'
    """
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def winogrande(row: Row, number: int) -> Question:
    """WinoGrande (arXiv 1907.10641), by partial evaluation (arXiv 1806.02847).

    Each option in turn stands in the place of ``_``, and the rest of the sentence is scored. The
    rest keeps the white space that the sentence has (the harness puts one space in front).
    """
    before, blank, rest = row.text("sentence").partition("_")
    if not blank or not rest.strip():
        raise DataError(
            f"{row.where}: expected a sentence with _ and words after it, got {before + blank!r}"
        )
    options = tuple(
        Option(context=before + row.text(column), answer=rest) for column in ("option1", "option2")
    )
    right = one_of(row, "answer", ("1", "2"))
    return Question(number=number, options=options, right=right)


TASKS: Mapping[str, Task] = {
    "arc_easy": Task(dataset="allenai/ai2_arc", config="ARC-Easy", split="test", question=arc),
    "arc_challenge": Task(
        dataset="allenai/ai2_arc", config="ARC-Challenge", split="test", question=arc
    ),
    "hellaswag": Task(dataset="Rowan/hellaswag", question=hellaswag),
    "piqa": Task(
        dataset="ybisk/piqa",
        config="plain_text",
        revision="refs/convert/parquet",
        question=piqa,
    ),
    "siqa": Task(
        dataset="allenai/social_i_qa",
        config="default",
        revision="refs/convert/parquet",
        question=siqa,
    ),
    "winogrande": Task(
        dataset="allenai/winogrande",
        config="winogrande_xl",
        revision="refs/convert/parquet",
        question=winogrande,
        same_answer=True,
    ),
}
