"""From a run's tokens to text that another tokenizer can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from mdmkit.errors import DataError
from mdmkit.protocols import Tokenizer
from mdmkit.values import Vocabulary

_REPLACEMENT = "\ufffd"  # what bytes that are no UTF-8 are decoded to
_ITS_BYTES = len(_REPLACEMENT.encode())


@frozen(kw_only=True)
class Text:
    """One text.

    Attributes:
        ids: the run's tokens that it is made of, BOS and EOS among them, padding not.
        parts: what stands between the ends of documents, decoded.
        lost: how many of their U+FFFD stand for bytes that are no UTF-8.
    """

    ids: tuple[int, ...]
    parts: tuple[str, ...]
    lost: int = 0

    @property
    def utf8_bytes(self) -> int:
        """Of all parts; the end of a document has none, and what is lost is a byte each."""
        return sum(len(part.encode()) for part in self.parts) - (_ITS_BYTES - 1) * self.lost

    @property
    def damaged(self) -> bool:
        """Whether some bytes were no UTF-8, so that the text does not stand for the tokens."""
        return self.lost > 0


def text_of(ids: Sequence[int], tokenizer: Tokenizer, *, ends_at_eos: bool = False) -> Text:
    """Decode one row.

    The end of a document (EOS; BOS where no EOS stands before it) is no text but a cut between
    parts. One in front of everything is left out: there the judge has a start token of its own.

    Args:
        ids: the row.
        tokenizer: of the run.
        ends_at_eos: whether everything from the first EOS on is left out.
    """
    vocab = tokenizer.vocab
    row = list(ids)
    if ends_at_eos and vocab.eos_id in row:
        row = row[: row.index(vocab.eos_id)]
    row = [token for token in row if token != vocab.pad_id or token == vocab.eos_id]
    parts = list(_parts(row, vocab))
    if len(parts) > 1 and not parts[0]:
        del parts[0]
    decoded = tuple(tokenizer.decode(part) if part else "" for part in parts)
    lost = sum(_lost(text, part, tokenizer) for text, part in zip(decoded, parts, strict=True))
    return Text(ids=tuple(row), parts=decoded, lost=lost)


def _lost(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> int:
    """How many U+FFFD of `text` were not written as the tokens of that character."""
    count = text.count(_REPLACEMENT)
    if not count:
        return 0
    try:
        (own,) = tokenizer.encode_batch([_REPLACEMENT])
    except DataError:  # it has no such character
        return count
    written = sum(list(ids[at : at + len(own)]) == own for at in range(len(ids)) if own)
    return max(count - written, 0)


def _parts(row: Sequence[int], vocab: Vocabulary) -> Iterator[list[int]]:
    """The tokens between the ends of documents."""
    part: list[int] = []
    before = None
    for token in row:
        if token not in (vocab.bos_id, vocab.eos_id):
            part.append(token)
        elif token == vocab.eos_id or before != vocab.eos_id or before is None:
            yield part
            part = []
        before = token
    yield part
