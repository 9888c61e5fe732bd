"""Templates in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from attrs import frozen

from mdmkit.errors import DataError, RecipeError
from mdmkit.evaluation.infilling.templates import Gap, Special, Template
from mdmkit.protocols import Tokenizer

Piece = tuple[int, ...] | Gap
"""Tokens that are given, or a gap."""


@frozen(kw_only=True)
class Start:
    """What a sampler begins with.

    Attributes:
        ids: L tokens, the mask where text is wanted.
        gaps: ``(start, stop)`` of each stretch of masks, in tokens.
    """

    ids: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]

    @property
    def given(self) -> tuple[int, ...]:
        """The positions whose tokens are given."""
        hidden = {place for start, stop in self.gaps for place in range(start, stop)}
        return tuple(place for place in range(len(self.ids)) if place not in hidden)


@frozen(kw_only=True)
class Frame:
    """A row whose gaps may still have several lengths.

    Attributes:
        pieces: what is given, and gaps, in order.
        where: how an error names it.
    """

    pieces: tuple[Piece, ...]
    where: str

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Gap))

    @property
    def given(self) -> int:
        """How many tokens are given."""
        return sum(len(piece) for piece in self.pieces if not isinstance(piece, Gap))

    @property
    def longest(self) -> int:
        """Tokens of the row with all gaps as long as they may be."""
        return self.given + sum(gap.longest for gap in self.gaps)

    @property
    def combinations(self) -> int:
        """In how many ways the gaps may be sized."""
        return math.prod(gap.longest - gap.shortest + 1 for gap in self.gaps)

    def lengths(self) -> Iterator[tuple[int, ...]]:
        """All of them, each with the tokens of every gap."""
        return product(*(range(gap.shortest, gap.longest + 1) for gap in self.gaps))

    def start(self, lengths: Sequence[int], mask_id: int) -> Start:
        """The row with gaps of these lengths."""
        ids: list[int] = []
        gaps: list[tuple[int, int]] = []
        sizes = iter(lengths)
        for piece in self.pieces:
            tokens = (mask_id,) * next(sizes) if isinstance(piece, Gap) else piece
            if isinstance(piece, Gap):
                gaps.append((len(ids), len(ids) + len(tokens)))
            ids += tokens
        return Start(ids=tuple(ids), gaps=tuple(gaps))


def frame_of_prompt(prompt: str, length: int, tokenizer: Tokenizer) -> Frame:
    """A prompt and as many masks as are left of `length`.

    Raises:
        RecipeError: where the prompt leaves none.
    """
    ids = tuple(tokenizer.encode_batch([prompt])[0]) if prompt else ()
    room = length - len(ids)
    if room < 1:
        raise RecipeError(
            f"prompt: it has {len(ids)} tokens and leaves nothing to generate in a length of "
            f"{length}; shorten it or ask for a greater length"
        )
    return Frame(pieces=(ids, Gap(shortest=room, longest=room)), where="length")


def frame_of_template(template: Template, tokenizer: Tokenizer) -> Frame:
    """A template in tokens. Each literal part is tokenized by itself.

    Raises:
        RecipeError: where it asks for a special token that the tokenizer lacks.
        DataError: where the tokenizer refuses a character.
    """
    vocab, pieces = tokenizer.vocab, list[Piece]()
    special = {"bos": vocab.bos_id, "eos": vocab.eos_id}
    for part in template.parts:
        if isinstance(part, Gap):
            pieces.append(part)
        elif isinstance(part, Special):
            token = special[part.role]
            if token is None:
                raise RecipeError(
                    f"{template.where}: [{part.role.upper()}]: the tokenizer of this run has no "
                    "such token; leave it out"
                )
            pieces.append((token,))
        else:
            pieces.append(_encoded(part, template.where, tokenizer))
    return Frame(pieces=tuple(pieces), where=template.where)


def _encoded(text: str, where: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    try:
        return tuple(tokenizer.encode_batch([text])[0])
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
