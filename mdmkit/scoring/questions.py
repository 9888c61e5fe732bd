"""Questions, and how they become rows of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from attrs import frozen

from mdmkit.protocols import Tokenizer


@frozen(kw_only=True)
class Option:
    """One way to go on from a context.

    Attributes:
        context: the text that is always visible.
        answer: the text that is scored, with the white space that stands before it.
    """

    context: str
    answer: str

    @property
    def utf8_bytes(self) -> int:
        """Bytes of the answer, without white space at its start."""
        return len(self.answer.lstrip().encode())


@frozen(kw_only=True)
class Question:
    """A multiple-choice question.

    Attributes:
        number: its place in the data set, from 0; its random numbers depend on it.
        options: what is chosen from.
        right: the index of the right one.
        premise: the bare context of PMI normalisation (arXiv 2104.08315): it says that an answer
            follows, and nothing of the question. None where it makes no difference.
    """

    number: int
    options: tuple[Option, ...]
    right: int
    premise: str | None = None

    def texts(self) -> list[Option]:
        """The options, then, if there is a premise, their answers after it."""
        if self.premise is None:
            return list(self.options)
        bare = [Option(context=self.premise, answer=option.answer) for option in self.options]
        return [*self.options, *bare]


@frozen(kw_only=True)
class Encoded:
    """An option as tokens: the last `count` of them are the answer.

    Attributes:
        tokens: context and answer, at most as many as the network was trained on.
        count: n, tokens of the answer.
        cut: how many tokens of the context were cut off on its left.
    """

    tokens: tuple[int, ...]
    count: int
    cut: int


def encode(
    texts: Sequence[Option], tokenizer: Tokenizer, *, length: int, bos: bool
) -> list[Encoded | None]:
    """Tokens of each option; None where its answer has none, or more than fit.

    The text is tokenized as a whole. The answer begins with the first token in which the whole
    differs from the context by itself, so no visible token holds anything of the answer.

    Args:
        texts: what to encode.
        tokenizer: of the run.
        length: L, the longest row; longer contexts lose their left end.
        bos: whether BOS stands in front of each row; the caller has seen that there is one.
    """
    contexts = tokenizer.encode_batch([text.context for text in texts])
    wholes = tokenizer.encode_batch([text.context + text.answer for text in texts])
    first = [tokenizer.vocab.bos_id] if bos and tokenizer.vocab.bos_id is not None else []
    return [
        _fit(context, whole, first, length) for context, whole in zip(contexts, wholes, strict=True)
    ]


def windows(
    tokens: Sequence[int], *, given: int = 0, length: int, first: Sequence[int] = ()
) -> list[Encoded]:
    """A text of any length as rows in which each token past the given ones is scored once.

    What fits is one row, whose context loses its left end. Else half of the first row is context at
    most, the others follow one another, and the last is full, too: it shows the tokens before
    those that it scores.

    Args:
        tokens: of the text.
        given: so many at its start are context and are not scored.
        length: L, the longest row.
        first: tokens that stand in front of each row and are not scored, such as BOS.
    """
    room, count = length - len(first), len(tokens) - given
    seen = min(given, room - count if count <= room else room // 2)
    found, done = [], given
    while done < len(tokens):
        end = min(done + room - seen, len(tokens))
        start = max(0, min(done - seen, end - room))
        row = (*first, *tokens[start:end])
        found.append(Encoded(tokens=row, count=end - done, cut=start))
        done, seen = end, 0
    return found


def _fit(context: list[int], whole: list[int], first: list[int], length: int) -> Encoded | None:
    pairs = zip(context, whole, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not 0 < len(whole) - shared <= length - len(first):
        return None
    (row,) = windows(whole, given=shared, length=length, first=first)
    return row
