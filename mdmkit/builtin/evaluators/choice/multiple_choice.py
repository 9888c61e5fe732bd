"""Multiple-choice questions, answered by the NELBO of each candidate given its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.choice.accuracy import credit, padded, share
from mdmkit.builtin.evaluators.choice.answers import (
    Answers,
    read_facts,
    require_bos,
    sampled,
)
from mdmkit.builtin.evaluators.choice.tasks import TASKS
from mdmkit.data.rows import RowSource
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext, Split
from mdmkit.scoring.questions import Question
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.choice.score_table import ScoreTable


@frozen(kw_only=True)
class MultipleChoice:
    """Zero-shot accuracy on a multiple-choice task.

    The answer of lowest NELBO given its context wins; only the answer is masked. All masks of an
    answer of up to ``enumerate`` tokens are tried, so its NELBO is exact; a longer one gets
    ``draws`` masks, whose random numbers all answers of a question share. Where the objective has
    an exact NLL, that is used.
    """

    task: Literal["arc_easy", "arc_challenge", "hellaswag", "piqa", "siqa", "winogrande"] = option(
        doc="which task"
    )
    path: str | None = option(None, doc="a local file or folder instead of the hub's data set")
    split: Split | None = option(None, doc="the task's own if left out; a file is taken as it is")
    questions: int = option(0, ge=0, doc="so many questions, evenly spaced over the split; 0: all")
    draws: int = option(16, ge=1, doc="masks an answer that is not enumerated")
    enumerate: int = option(5, ge=0, le=12, doc="up to so many tokens all 2^n − 1 masks are tried")
    bos: bool = option(False, doc="put BOS in front of each row, as training's packing may do")

    def build(self, context: EvaluationContext) -> LiveMultipleChoice:
        """Read and tokenize the questions.

        Raises:
            DataError: where they cannot be had, one is malformed, or fewer than two can be scored.
        """
        require_bos("multiple_choice", self.bos, context)
        task = TASKS[self.task]
        source = task.source(self.split, self.path)
        found = [task.question(row, number) for number, row in enumerate(source.rows())]
        answers = Answers.of(
            sampled(found, self.questions),
            context,
            draws=self.draws,
            enumerate_up_to=self.enumerate,
            bos=self.bos,
        )
        answers.require_two(f"multiple_choice, {self.task}", context)
        return LiveMultipleChoice(
            options=self,
            context=context,
            source=source,
            total=len(found),
            answers=answers,
            table=answers.table(context),
        )


@frozen(kw_only=True, eq=False)
class LiveMultipleChoice:
    """`MultipleChoice` on one network, made by its ``build``.

    Attributes:
        source: where the questions are from.
        total: questions in the split.
        answers: those that are scored, as rows.
    """

    options: MultipleChoice
    context: EvaluationContext
    source: RowSource
    total: int
    answers: Answers
    table: ScoreTable

    def __len__(self) -> int:
        """Batches a rank."""
        return len(self.answers.work)

    def update(self, index: int) -> None:
        """Score one batch of (row, mask) pairs."""
        self.answers.update(index, self.table)

    def scores(self) -> Mapping[str, Tensor]:
        """What each accuracy compares, over all ranks: ``[Q, C, 3]`` by half, and by all draws.

        Lower is better; infinite where a question has fewer answers.
        """
        nats = self.answers.nats(self.table)  # [R, 3]
        questions = self.answers.questions
        counts, sizes = _by_option(self.answers.counts), _by_option(_utf8_bytes(questions))
        cond = _gathered(nats, self.answers.rows)
        found = {"accuracy": cond}
        if not TASKS[self.options.task].same_answer:
            bare = _gathered(nats, self.answers.bare_rows)
            found |= {
                "accuracy_per_token": cond / counts[..., None],
                "accuracy_per_byte": cond / sizes[..., None],
                "accuracy_pmi": (cond - bare).nan_to_num(nan=torch.inf),  # ∞ − ∞: no answer
            }
        return found

    def compute(self) -> dict[str, Measurement]:
        """The share of questions answered rightly, by each way to compare answers.

        Raises:
            MdmkitError: where the network's cross-entropies are not finite.
        """
        right = torch.tensor([question.right for question in self.answers.questions])
        measured = {}
        for name, scores in self.scores().items():
            one, two, both = (credit(part, right) for part in scores.unbind(-1))
            measured[name] = share(both, (one, two) if self.answers.drawn else None)
        return measured

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The task, its data and prompt, what was masked how often, and what chance gives."""
        task, questions = TASKS[self.options.task], self.answers.questions
        chance = sum(1 / len(question.options) for question in questions) / len(questions)
        return {
            "task": self.options.task,
            **read_facts(self.source, self.options.path),
            "template": task.template,
            "questions": len(questions),
            "questions_in_split": self.total,
            "chance": chance,
            **self.answers.provenance(),
            "stderr": "of a binomial share over questions, by a uniform prior",
            "draws_stderr": "between halves of the draws: at most so much",
        }


def _utf8_bytes(questions: Sequence[Question]) -> list[list[int]]:
    return [[max(1, option.utf8_bytes) for option in q.options] for q in questions]


def _by_option(values: Sequence[Sequence[float]]) -> Tensor:
    """``[Q, C]`` float64; 1 where a question has fewer options, whose score is infinite."""
    return padded([list(row) for row in values]).nan_to_num(posinf=1.0)


def _gathered(nats: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """``[Q, C, 3]`` of ``nats [R, 3]``; infinite where a question has fewer options."""
    wanted = padded([[float(row) for row in question] for question in rows])
    missing = wanted.isinf()
    return nats[wanted.nan_to_num(posinf=0.0).long()].masked_fill(missing[..., None], torch.inf)
