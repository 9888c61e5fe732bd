"""How documents become blocks of one length.

A packing has two halves. `frame` says which special ids surround each document on disk; all
packings with the same frame share one token store. `cut` lays blocks over the stored tokens and
returns an object that turns block numbers into a `Batch` (`mdmkit.data.cuts`). A new protocol is
one more class with these two methods, and an entry in `PACKINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from attrs import frozen

from mdmkit.data.cuts import Cut, Pieces, Rows
from mdmkit.data.store import Frame, TokenStore
from mdmkit.errors import DataError
from mdmkit.options import component, option
from mdmkit.problems import invalid
from mdmkit.values import Vocabulary

__all__ = [
    "PACKINGS",
    "Cut",
    "Document",
    "Packed",
    "PackingOptions",
    "Padded",
    "Rearranged",
    "Thinned",
    "Wrapped",
]


class PackingOptions(Protocol):
    """Options of a packing, for the table ``[data.packing]``.

    May have ``needs``, the features of attention that its blocks ask a denoiser for.
    """

    def frame(self, vocab: Vocabulary) -> Frame:
        """What surrounds each document on disk.

        Raises:
            DataError: where the tokenizer has no such token.
        """

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """Lay blocks of `length` tokens over `store`; there may be none.

        Raises:
            DataError: where the length or the tokenizer does not fit.
        """


@frozen(kw_only=True)
class Packed:
    """Documents one after the other, cut into blocks; the tail that fills none is dropped."""

    eos: bool = option(True, doc="put the tokenizer's EOS after each document")
    bos: bool = option(False, doc="put the tokenizer's BOS before each document")

    def frame(self, vocab: Vocabulary) -> Frame:
        """BOS before and EOS after each document, as asked."""
        return _frame(vocab, "packed", bos=self.bos, eos=self.eos)

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:  # noqa: ARG002 - the contract
        """Blocks of `length` tokens."""
        return Pieces(store=store, width=length)


@frozen(kw_only=True)
class Document:
    """Packed, but attention stays inside each document, as if it were alone.

    A document that goes on in the next block begins anew there. For next-token prediction the
    first token of each document, and of each block, is predicted from the token that begins a
    text.
    """

    eos: bool = option(True, doc="put the tokenizer's EOS after each document")
    bos: bool = option(False, doc="put the tokenizer's BOS before each document")
    needs: ClassVar[frozenset[str]] = frozenset({"document_ids"})

    def frame(self, vocab: Vocabulary) -> Frame:
        """BOS before and EOS after each document, as asked."""
        return _frame(vocab, "document", bos=self.bos, eos=self.eos)

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:  # noqa: ARG002 - the contract
        """Blocks of `length` tokens that tell the document of each token."""
        return Pieces(store=store, width=length, apart=True)


@frozen(kw_only=True)
class Wrapped:
    """Blocks of ``[BOS] + (L − 2 tokens) + [EOS]``, as MDLM (arXiv 2406.07524) makes them.

    The L − 2 tokens are cut from the documents one after the other; the tail is dropped. With
    BERT's tokenizer MDLM's loader has [CLS] wherever a document or a block ends, since it takes
    the first id of the encoded EOS: ``separator = "bos"`` does that. With GPT-2's, where both
    are one token, it makes no difference.
    """

    eos: bool = option(True, doc="also put EOS after each document, inside the blocks")
    score_bos: bool = option(True, doc="mask and count BOS like any token; BD3-LM does neither")
    separator: Literal["eos", "bos"] = option("eos", doc="which token stands where EOS should")

    def frame(self, vocab: Vocabulary) -> Frame:
        """The separator after each document, if asked."""
        return Frame(after=(self._separator(vocab),) if self.eos else ())

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """Blocks of `length` tokens, two of which are BOS and EOS."""
        _with_room(length, 2, "wrapped")
        return Pieces(
            store=store,
            width=length - 2,
            first=_needed("bos", vocab, "wrapped"),
            last=self._separator(vocab),
            score_first=self.score_bos,
        )

    def _separator(self, vocab: Vocabulary) -> int:
        return _needed(self.separator, vocab, "wrapped")


@frozen(kw_only=True)
class Padded:
    """A document a block: ``[BOS] + text + [EOS]``, then padding, which never counts.

    Nobody attends to padding, so that where the tokenizer has no token for it, any other stands
    there instead. MDLM (arXiv 2406.07524) trains and scores LM1B in such rows, too, but attends
    to padding, and masks it at the rate of its row, so that a network sees where a text ends:
    ``attend_padding = true``. Its next-token baseline does not score [CLS]: ``score_bos = false``.

    A document that is split makes blocks that look like documents, each with BOS and EOS.
    """

    bos: bool = option(True, doc="put the tokenizer's BOS before the text of each block")
    eos: bool = option(True, doc="put the tokenizer's EOS after it")
    overflow: Literal["truncate", "split"] = option(
        "truncate", doc="what does not fit of a document is dropped, or makes more blocks"
    )
    score_bos: bool = option(True, doc="mask and count BOS like any token")
    attend_padding: bool = option(
        False, doc="let padding be seen, and mask it like text; it needs a padding token"
    )

    @property
    def needs(self) -> frozenset[str]:
        """Padding must be hidden, unless it is to be seen."""
        return frozenset() if self.attend_padding else frozenset({"padding"})

    def frame(self, vocab: Vocabulary) -> Frame:  # noqa: ARG002 - the contract
        """Nothing: a block that does not hold the whole document has BOS and EOS, too."""
        return Frame()

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """Blocks of `length` tokens, one or more for each document."""
        _with_room(length, self.bos + self.eos, "padded")
        pad = vocab.pad_id
        if pad is None:
            pad = _needed("pad", vocab, "padded") if self.attend_padding else vocab.start_id
        return Rows(
            store=store,
            length=length,
            pad=pad,
            first=_needed("bos", vocab, "padded") if self.bos else None,
            last=_needed("eos", vocab, "padded") if self.eos else None,
            split=self.overflow == "split",
            score_first=self.score_bos or not self.bos,
            padding_seen=self.attend_padding,
        )


@frozen(kw_only=True)
class Rearranged:
    """Blocks of another packing whose tokens stand in another order: a test of what locality does.

    Every real token of a block moves, BOS and EOS too; padding stays at the end. The blocks have
    the same tokens as without, so that their bytes and documents are the same. All splits are
    rearranged alike.

    Masks that are drawn for each token by itself do not notice one order for all blocks: then
    ``fixed`` and ``strided`` only change how positions have to be told apart. They do change what
    next-token prediction, and masks that come in runs, have at hand.
    """

    of: PackingOptions = component("packed", doc="makes the blocks")
    order: Literal["shuffled", "fixed", "strided"] = option(
        "shuffled",
        doc="shuffled: an order of its own for each block; fixed: one, drawn once, for all; "
        "strided: the text at the positions 0, s, 2s, …, then 1, 1 + s, …, so that neighbours in "
        "it stand s apart",
    )
    stride: int | None = option(None, ge=2, doc="s of strided, below the length")
    seed: int = option(0, ge=0, doc="of the orders that are drawn")

    def __attrs_post_init__(self) -> None:
        """Refuse what has no meaning."""
        if "document_ids" in self.needs:
            raise invalid("a document cannot be kept to itself where its tokens are moved", "of")
        if (self.order == "strided") != (self.stride is not None):
            raise ValueError('stride is for order = "strided", which needs it')

    @property
    def needs(self) -> frozenset[str]:
        """What the other packing asks for."""
        needs: frozenset[str] = getattr(self.of, "needs", frozenset())
        return needs

    def frame(self, vocab: Vocabulary) -> Frame:
        """That of the other packing, with which it shares the tokens on disk."""
        return self.of.frame(vocab)

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:
        """The other packing's blocks, rearranged."""
        from mdmkit.data.rearranging import Rearranged as Moved  # it imports torch

        stride = self.stride or 1
        if stride >= length:
            raise DataError(
                f"data.packing.stride: {stride} leaves all as it is; expected less than "
                f"data.length, {length}"
            )
        blocks = self.of.cut(store, length, vocab)
        return Moved(cut=blocks, arrangement=self.order, seed=self.seed, stride=stride)


@frozen(kw_only=True)
class Thinned(Packed):
    """Packed, but a block holds every s-th token of the text: neighbours are s tokens apart in it.

    A stretch of s·L tokens makes s blocks, one for each of its first s tokens; the tail that fills
    no stretch is dropped. No block holds the near context, and the more it lacks the larger s is,
    while all that is far is as it was: a dose of lost locality. A block's bytes are an equal share
    of its stretch's.
    """

    stride: int = option(4, ge=2, doc="s")

    def cut(self, store: TokenStore, length: int, vocab: Vocabulary) -> Cut:  # noqa: ARG002 - the contract
        """Blocks of `length` tokens."""
        from mdmkit.data.rearranging import EveryNth  # it imports torch

        stretches = Pieces(store=store, width=length * self.stride)
        return EveryNth(stretches=stretches, stride=self.stride)


PACKINGS: Mapping[str, type[Any]] = {
    "packed": Packed,
    "wrapped": Wrapped,
    "padded": Padded,
    "document": Document,
    "rearranged": Rearranged,
    "thinned": Thinned,
}
"""The closed catalogue: what ``use`` may say in ``[data.packing]``."""


def _frame(vocab: Vocabulary, packing: str, *, bos: bool, eos: bool) -> Frame:
    return Frame(
        before=(_needed("bos", vocab, packing),) if bos else (),
        after=(_needed("eos", vocab, packing),) if eos else (),
    )


def _with_room(length: int, special: int, packing: str) -> None:
    if length <= special:
        raise DataError(
            f"data.length: {length} leaves no room for text beside BOS and EOS; the packing "
            f'"{packing}" needs at least {special + 1}'
        )


def _needed(role: Literal["bos", "eos", "pad"], vocab: Vocabulary, packing: str) -> int:
    token_id: int | None = getattr(vocab, f"{role}_id")
    if token_id is None:
        raise DataError(
            f'data.packing: "{packing}" needs the {role} token, which the tokenizer does not '
            f"have; name one with data.tokenizer.{role} where the tokenizer has that option, or "
            "choose other options of the packing, another packing or another tokenizer"
        )
    return token_id
