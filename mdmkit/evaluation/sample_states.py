"""Texts on their way from masks to words, as they can be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

from attrs import frozen

from mdmkit.evaluation.wanted import Wanted
from mdmkit.protocols import Tokenizer
from mdmkit.values import Generation

GLYPH = "░"
"""Stands for one masked token."""

Kind = Literal["given", "masked", "new", "generated"]


@frozen(kw_only=True)
class Piece:
    """Neighbouring tokens of one kind.

    Attributes:
        text: theirs; a glyph for each mask.
        kind: ``new`` has been lifted since the state before, ``generated`` earlier.
    """

    text: str
    kind: Kind


@frozen(kw_only=True)
class PartialText:
    """A text that still may have masks.

    Attributes:
        place: its number in the list that `mdmkit.sample` would give.
        row: its number for the noise; see `mdmkit.evaluation.samples.Sample`.
        template_id: of the template it fills, or None.
        ids: its tokens.
        masks: how many of them are masks.
        pieces: what is shown.
    """

    place: int
    row: int
    template_id: str | int | None
    ids: tuple[int, ...]
    masks: int
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The pieces, joined."""
        return "".join(piece.text for piece in self.pieces)


@frozen(kw_only=True)
class SampleState:
    """A batch of texts after a step.

    Attributes:
        texts: the texts of the batch.
        step: states of this batch so far; it begins again with every batch.
        network_evaluations: how often the network was called for the batch so far.
    """

    texts: tuple[PartialText, ...]
    step: int
    network_evaluations: int


class Showing:
    """Makes the states of one batch fit to be shown, one after the other."""

    def __init__(self, batch: Sequence[Wanted], tokenizer: Tokenizer) -> None:
        """Begin with nothing lifted."""
        self._batch, self._tokenizer = batch, tokenizer
        self._before = [one.start.ids for one in batch]

    def __call__(self, state: Generation) -> SampleState:
        """The next state."""
        now = [tuple(ids) for ids in state.tokens.tolist()]
        texts = map(self._text, self._batch, now, self._before)
        shown = SampleState(
            texts=tuple(texts),
            step=state.step,
            network_evaluations=state.network_evaluations,
        )
        self._before = now
        return shown

    def _text(self, one: Wanted, ids: tuple[int, ...], before: tuple[int, ...]) -> PartialText:
        mask_id = self._tokenizer.vocab.mask_id
        kinds = kinds_of(ids, before, one.start.ids, mask_id)
        return PartialText(
            place=one.place,
            row=one.row,
            template_id=one.template_id,
            ids=ids,
            masks=ids.count(mask_id),
            pieces=tuple(pieces_of(ids, kinds, self._tokenizer)),
        )


def kinds_of(
    ids: Sequence[int], before: Sequence[int], start: Sequence[int], mask_id: int
) -> list[Kind]:
    """The kind of each token.

    Args:
        ids: the tokens now.
        before: those of the state before.
        start: those that the sampler began with.
        mask_id: the mask.
    """

    def kind(now: int, old: int, first: int) -> Kind:
        if first != mask_id:
            return "given"
        if now == mask_id:
            return "masked"
        return "generated" if now == old else "new"

    return [kind(*three) for three in zip(ids, before, start, strict=True)]


def pieces_of(ids: Sequence[int], kinds: Sequence[Kind], tokenizer: Tokenizer) -> Iterator[Piece]:
    """The text in pieces of one kind each.

    A token's text may depend on the one before it (whether a space stands between), and one
    character may be spread over several tokens; where their kinds differ it is not to be seen.
    """
    end = 0
    for kind, group in groupby(kinds):
        start, end = end, end + len(list(group))
        if kind == "masked":
            yield Piece(text=GLYPH * (end - start), kind=kind)
            continue
        first = max(start - 1, 0)
        before, with_it = tokenizer.decode(ids[first:start]), tokenizer.decode(ids[first:end])
        own = with_it.removeprefix(before) if with_it.startswith(before) else None
        yield Piece(text=tokenizer.decode(ids[start:end]) if own is None else own, kind=kind)
