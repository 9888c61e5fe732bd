"""The last word of a passage: LAMBADA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mdmkit.builtin.evaluators.choice.accuracy import mean, share
from mdmkit.builtin.evaluators.choice.answers import (
    Answers,
    read_facts,
    require_bos,
    sampled,
)
from mdmkit.builtin.evaluators.likelihood import exponential
from mdmkit.data.rows import Row, RowSource
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext, Split
from mdmkit.scoring.greedy import Greedy
from mdmkit.scoring.questions import Option, Question
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.builtin.evaluators.choice.score_table import ScoreTable

_TEMPLATE = 1


@frozen(kw_only=True)
class LastWord:
    """The last word of each passage, given all before it: LAMBADA (arXiv 1606.06031).

    Measures its NELBO (masks as in ``multiple_choice``), and how often filling it in greedily
    gives the word: all its tokens are masked, and the most confident is revealed first. The
    network so knows how many tokens the word has, which next-token prediction does not.
    """

    path: str | None = option(None, doc="a local file or folder instead of the hub's data set")
    column: str = option("text", doc="the column that holds the passage")
    split: Split = option("test", doc="which split; a file is taken as it is")
    questions: int = option(0, ge=0, doc="so many passages, evenly spaced over the split; 0: all")
    draws: int = option(16, ge=1, doc="masks a word that is not enumerated")
    enumerate: int = option(5, ge=0, le=12, doc="up to so many tokens all 2^n − 1 masks are tried")
    bos: bool = option(False, doc="put BOS in front of each row, as training's packing may do")

    def build(self, context: EvaluationContext) -> LiveLastWord:
        """Read and tokenize the passages.

        Raises:
            DataError: where they cannot be had, one is malformed, or fewer than two can be scored.
        """
        from mdmkit.builtin.evaluators.choice.score_table import ScoreTable  # torchmetrics is slow

        require_bos("last_word", self.bos, context)
        source = RowSource(
            dataset="EleutherAI/lambada_openai",
            config="default",
            revision="refs/convert/parquet",
            split=self.split,
            path=self.path,
            option="evaluators.<label>.path",
        )
        found = [last_word(row, number, self.column) for number, row in enumerate(source.rows())]
        answers = Answers.of(
            sampled(found, self.questions),
            context,
            draws=self.draws,
            enumerate_up_to=self.enumerate,
            bos=self.bos,
        )
        answers.require_two("last_word", context)
        rows = answers.work.rows
        counts = [row.masks.masks.shape[-1] for row in rows]
        hits = ScoreTable(len(rows), 1, sync_on_compute=context.world_size > 1)
        return LiveLastWord(
            options=self,
            source=source,
            total=len(found),
            answers=answers,
            greedy=Greedy.of([row.tokens for row in rows], counts, context),
            table=answers.table(context),
            hits=hits.to(context.device),
        )


def last_word(row: Row, number: int, column: str) -> Question:
    """A passage as a question with one answer: what stands after its last space."""
    context, space, word = row.text(column).rstrip().rpartition(" ")
    if not context.strip():
        raise DataError(f"{row.where}: expected a passage of at least two words, got {word!r}")
    return Question(number=number, options=(Option(context=context, answer=space + word),), right=0)


@frozen(kw_only=True, eq=False)
class LiveLastWord:
    """`LastWord` on one network, made by its ``build``.

    Attributes:
        source: where the passages are from.
        total: passages in the split.
        answers: the words that are scored, as rows.
        greedy: the same, to be filled in.
        hits: which rows were filled in right.
    """

    options: LastWord
    source: RowSource
    total: int
    answers: Answers
    greedy: Greedy
    table: ScoreTable
    hits: ScoreTable

    def __len__(self) -> int:
        """Batches a rank: first those of the NELBO, then those to be filled in."""
        return len(self.answers.work) + len(self.greedy)

    def update(self, index: int) -> None:
        """Score a batch of (row, mask) pairs, or fill one in."""
        if index < len(self.answers.work):
            self.answers.update(index, self.table)
            return
        rows, right = self.greedy.right(index - len(self.answers.work))
        device = self.hits.nats.device
        self.hits.update(rows.to(device), right[:, None].to(device))

    def compute(self) -> dict[str, Measurement]:
        """NELBO in nats a word, exp of it, and the accuracy of filling in greedily.

        Raises:
            MdmkitError: where the network's cross-entropies are not finite.
        """
        rows = [places[0] for places in self.answers.rows]
        nelbo = mean(
            self.answers.nats(self.table)[rows], unit="nats/word", drawn=self.answers.drawn
        )
        return {
            "accuracy": share(self.hits.compute().cpu()[rows, 0]),
            "nelbo_per_word": nelbo,
            "ppl_per_word": exponential(nelbo),
        }

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The data, what was masked how often, and how words were filled in."""
        return {
            "task": "lambada_last_word",
            **read_facts(self.source, self.options.path),
            "template": _TEMPLATE,
            "questions": len(self.answers.questions),
            "questions_in_split": self.total,
            **self.answers.provenance(),
            "filled_in": "one token at a time, the most confident first",
            "stderr": "accuracy: of a binomial share, by a uniform prior; others: over passages",
            "draws_stderr": "between halves of the draws",
        }
