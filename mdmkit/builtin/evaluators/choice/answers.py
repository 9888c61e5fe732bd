"""The answers of questions as rows of tokens, their masks, and what the network says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.pairs import evenly_spaced
from mdmkit.data.rows import RowSource
from mdmkit.errors import DataError, MdmkitError
from mdmkit.protocols import EvaluationContext
from mdmkit.scoring.questions import Encoded, Question, encode
from mdmkit.scoring.rows import Rows
from mdmkit.scoring.score import NOT_FINITE
from mdmkit.scoring.work import Work

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.choice.score_table import ScoreTable

T = TypeVar("T")


@frozen(kw_only=True, eq=False)
class Answers:
    """All answers that are scored.

    Attributes:
        questions: those whose answers all have tokens, and fit.
        skipped: how many have not.
        rows: the row of each option of each question; options may share a row.
        bare_rows: the row of the same answer after the bare premise; empty without one.
        counts: n, the tokens of each option's answer.
        work: the rows, in batches.
        truncated: how many rows lost the left end of their context.
        draws: D, the masks of an answer that is not enumerated.
        bos: whether BOS stands in front of each row.
    """

    questions: Sequence[Question]
    skipped: int
    rows: Sequence[Sequence[int]]
    bare_rows: Sequence[Sequence[int]]
    counts: Sequence[Sequence[int]]
    work: Work
    truncated: int
    draws: int
    bos: bool

    @classmethod
    def of(
        cls,
        questions: Sequence[Question],
        context: EvaluationContext,
        *,
        draws: int,
        enumerate_up_to: int,
        bos: bool,
    ) -> Answers:
        """Tokenize the answers and choose their masks."""
        texts = [text for question in questions for text in question.texts()]
        encoded = iter(encode(texts, context.tokenizer, length=context.length, bos=bos))
        kept: list[tuple[Question, list[Encoded]]] = []
        for question in questions:
            parts = [next(encoded) for _ in question.texts()]
            fitting = [part for part in parts if part is not None]
            if len(fitting) == len(parts):
                kept.append((question, fitting))
        collected = Rows(context=context, draws=draws, enumerate_up_to=enumerate_up_to)
        places = [(len(q.options), collected.add(q.number, fitting)) for q, fitting in kept]
        return cls(
            questions=[question for question, _ in kept],
            skipped=len(questions) - len(kept),
            rows=[found[:options] for options, found in places],
            bare_rows=[found[options:] for options, found in places],
            counts=[[part.count for part in fitting[: len(q.options)]] for q, fitting in kept],
            work=Work.of(collected.rows, context),
            truncated=sum(part.cut > 0 for _, fitting in kept for part in fitting),
            draws=draws,
            bos=bos,
        )

    @property
    def drawn(self) -> bool:
        """Whether any masks are a sample whose error is known: it has two halves."""
        return self.draws > 1 and any(row.masks.drawn for row in self.work.rows)

    def require_two(self, evaluator: str, context: EvaluationContext) -> None:
        """Refuse fewer questions than a standard error needs.

        Raises:
            DataError: where fewer than two are left.
        """
        if len(self.questions) < 2:
            raise DataError(
                f"{evaluator}: {len(self.questions)} questions can be scored ({self.skipped} have "
                f"an answer without tokens, or with more than the {context.length} that the "
                "network was trained on); expected at least 2"
            )

    def table(self, context: EvaluationContext) -> ScoreTable:
        """An empty table of their scores."""
        from mdmkit.builtin.evaluators.choice.score_table import ScoreTable  # torchmetrics is slow

        table = ScoreTable(len(self.work.rows), sync_on_compute=context.world_size > 1)
        return table.to(context.device)

    def update(self, index: int, table: ScoreTable) -> None:
        """Score batch `index` of this rank."""
        rows, nats = self.work.score(index)
        table.update(rows.to(table.nats.device), nats.to(table.nats.device))

    def nats(self, table: ScoreTable) -> Tensor:
        """``[R, 3]`` float64: the NELBO of each row by either half of the draws, and by all.

        Raises:
            MdmkitError: where they are not finite.
        """
        nats = table.compute().cpu()
        if not nats.isfinite().all():
            raise MdmkitError(NOT_FINITE)
        return nats

    def provenance(self) -> Mapping[str, Any]:
        """How the answers were scored."""
        rows, context = self.work.rows, self.work.context
        return {
            "skipped": self.skipped,
            "truncated": self.truncated,
            "bos": self.bos,
            "answer_tokens": sum(sum(counts) for counts in self.counts),
            "tokenizer_fingerprint": context.tokenizer.fingerprint,
            "exact": context.objective.exact,
            "draws": self.draws,
            "enumerated_share": sum(not row.masks.drawn for row in rows) / max(1, len(rows)),
            "network_rows": self.work.network_rows,
            "seed": context.seed,
        }


def read_facts(source: RowSource, path: str | None) -> dict[str, Any]:
    """Where questions were read from; which split a single file holds is not known."""
    data = dict(source.describe())
    del data["hub_split"]
    facts = {"data": data, "fingerprint": source.fingerprint()}
    one_file = path is not None and Path(path).expanduser().is_file()
    return facts if one_file else facts | {"split": source.split}


def sampled(questions: Sequence[T], wanted: int) -> list[T]:
    """So many of them, evenly spaced; all where `wanted` is 0."""
    return [questions[place] for place in evenly_spaced(len(questions), wanted).tolist()]


def require_bos(evaluator: str, bos: bool, context: EvaluationContext) -> None:
    """Refuse ``bos = true`` where there is no such token."""
    if bos and context.tokenizer.vocab.bos_id is None:
        raise DataError(
            f"{evaluator}: bos = true, but the run's tokenizer has no BOS token; leave it out"
        )
