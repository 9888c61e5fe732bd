"""Who judges generated text: the options, what a judge can do, and how it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.generation.texts import Text
from mdmkit.builtin.evaluators.generation.windows import windows
from mdmkit.errors import DataError, MdmkitError
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext

ModelPrecision = Literal["float32", "bfloat16"]


class LiveJudge(Protocol):
    """A network that predicts the next token, and its tokenizer.

    In front of every row it puts its start token, which is never scored.
    """

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def context(self) -> int | None:
        """The most tokens that a row may have; None where there is no limit."""

    @property
    def boundary_id(self) -> int | None:
        """Its token for the end of a document; None where it has none."""

    @property
    def fill_id(self) -> int:
        """Any token: rows are filled up with it."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Which judge, as plain JSON."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, in which nothing stands for a special token.

        Raises:
            DataError: naming the text and the character that it has no token for.
        """

    def nll(self, tokens: Tensor, scored: Tensor) -> Tensor:
        """−log p of each token of ``tokens [B, L]`` given those before it: ``[B, L]`` float64.

        Only where ``scored [B, L]`` bool, else 0. What stands to the right changes nothing.
        """

    def features(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """The last hidden state after the first ``counts [B]`` tokens of ``tokens [B, L]``.

        L is below `context`, since the start token takes a place.

        Returns:
            ``[B, D]`` float32 on the CPU.
        """


@frozen(kw_only=True)
class Judge:
    """Which network judges: a run of one's own, or a published model; exactly one of them."""

    run: str | None = option(
        None, doc="a run that predicts the next token: a directory, or a name beside the run"
    )
    model: str | None = option(
        None, doc="a causal language model: a local folder, or owner/name on the hub"
    )
    revision: str | None = option(None, doc="of a model on the hub: commit, tag or branch")
    dtype: ModelPrecision | None = option(None, doc="of a model's forward; unset: float32")

    def __attrs_post_init__(self) -> None:
        """Refuse options that do not go together."""
        if self.run is not None and self.model is not None:
            raise ValueError("expected either run or model, got both")
        if self.model is None and (self.revision, self.dtype) != (None, None):
            raise ValueError("revision and dtype are of a model; expected model, too")

    def problems(self) -> Iterator[str]:
        """That there is none."""
        if self.run is None and self.model is None:
            yield (
                'judge: none is named; expected judge = { run = "…" }, a run of yours that '
                'predicts the next token, or judge = { model = "…" }, a causal language model: '
                "a local folder, or its name on the hub, such as gpt2-large"
            )

    def open(self, context: EvaluationContext) -> LiveJudge:
        """Open it, or take the one that another evaluation has open.

        Raises:
            CheckpointError: for a run that cannot be read.
            RecipeError: for a run that predicts something else, and where transformers is missing.
            DataError: for a model that cannot be had.
        """
        key = (self, context.device, None if self.run is None else context.open_run)
        judge = _OPEN.get(key)
        if judge is None:
            judge = _OPEN[key] = self._opened(context)
        return judge

    def _opened(self, context: EvaluationContext) -> LiveJudge:
        if self.run is not None:
            from mdmkit.builtin.evaluators.generation.run_judge import RunJudge

            return RunJudge.open(self.run, context)
        from mdmkit.builtin.evaluators.generation.model_judge import ModelJudge

        assert self.model is not None
        return ModelJudge.open(
            self.model,
            revision=self.revision,
            dtype=self.dtype or "float32",
            device=context.device,
        )


_OPEN: WeakValueDictionary[Any, LiveJudge] = WeakValueDictionary()
# the sets of a suite are all open at once, and their judge must not be in memory for each


def retokenized(judge: LiveJudge, texts: Sequence[Text]) -> list[list[int]]:
    """Each text as the judge's tokens; the end of a document is its own token for that.

    Raises:
        DataError: where the judge has no token for a character.
    """
    found = iter(judge.encode([part for text in texts for part in text.parts]))
    boundary = [] if judge.boundary_id is None else [judge.boundary_id]
    rows = []
    for text in texts:
        row: list[int] = []
        for number in range(len(text.parts)):
            row += [*(boundary if number else []), *next(found)]
        rows.append(row)
    return rows


def nats_of(judge: LiveJudge, rows: Sequence[Sequence[int]], batch_size: int) -> list[float]:
    """−log p of each row of the judge's tokens; every token is scored once.

    Args:
        judge: the judge.
        rows: tokens, of any length.
        batch_size: windows that the judge is shown at a time.

    Raises:
        MdmkitError: where they are not finite.
    """
    work = [(i, w) for i, row in enumerate(rows) for w in windows(len(row), judge.context)]
    nats = torch.zeros(len(rows), dtype=torch.float64)
    for first in range(0, len(work), batch_size):
        chunk = work[first : first + batch_size]
        shown = [rows[i][w.start : w.stop] for i, w in chunk]
        tokens = filled(shown, judge.fill_id)
        place = torch.arange(tokens.shape[1])
        start = torch.tensor([w.scored - w.start for _, w in chunk])
        stop = torch.tensor([w.stop - w.start for _, w in chunk])
        scored = (place >= start[:, None]) & (place < stop[:, None])
        places = torch.tensor([i for i, _ in chunk])
        nats.index_add_(0, places, judge.nll(tokens, scored).sum(-1))
    if not nats.isfinite().all():
        raise MdmkitError(
            f"{judge.name}: its cross-entropies are not finite; its weights are damaged, or its "
            "dtype is too coarse"
        )
    return [float(value) for value in nats]


def filled(rows: Sequence[Sequence[int]], fill_id: int) -> Tensor:
    """``[B, L]`` int64: rows of different lengths, filled up on the right."""
    width = max(map(len, rows))
    whole = [[*row, *[fill_id] * (width - len(row))] for row in rows]
    return torch.tensor(whole, dtype=torch.int64)


def require_known(
    judge: str, texts: Sequence[str], ids: Sequence[Sequence[int]], unknown: int | None, encode: Any
) -> None:
    """Refuse text of which a tokenizer has made its token for what it does not know.

    Args:
        judge: for the message.
        texts: what was encoded.
        ids: as what.
        unknown: the id of that token; None where there is none.
        encode: ids of one text, to find the character.

    Raises:
        DataError: naming the text and the character.
    """
    if unknown is None:
        return
    for text, row in zip(texts, ids, strict=True):
        if unknown in row:
            at = next((i for i, letter in enumerate(text) if unknown in encode(letter)), None)
            around = text if at is None else text[max(at - 20, 0) : at + 20]
            what = "a word" if at is None else f"the character {text[at]!r}"
            raise DataError(
                f"{judge}: its tokenizer does not know {what} in the text {around[:60]!r}; "
                "expected a judge that can read all that the run may write (a byte-level "
                "tokenizer can)"
            )
