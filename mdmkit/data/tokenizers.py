"""The tokenizers a recipe may name; whatever they are, they become one `TextTokenizer`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from attrs import frozen

from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, read_backend, wrap
from mdmkit.data.tokenizer_files import (
    VOCAB_NAMES,
    byte_pairs,
    from_hub,
    inside,
    merges_beside,
    word_pieces,
)
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Corpus
from mdmkit.suggest import did_you_mean

_END = "<|endoftext|>"
_MASK = "<|mask|>"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class TokenizerOptions(Protocol):
    """Options of a tokenizer, for the table ``[data.tokenizer]``.

    Attributes:
        trained: whether it is trained on the corpus (and is therefore worth caching).
    """

    trained: ClassVar[bool]

    @property
    def known_size(self) -> int | None:
        """V, number of ids with the mask, where it is known without building the tokenizer."""

    def build(self, corpus: Corpus) -> TextTokenizer:
        """Train or read the tokenizer.

        Raises:
            DataError: where it cannot be had, with the ways out.
        """


@frozen(kw_only=True)
class Bpe:
    """Byte-level byte-pair encoding, trained on the train split; every text can be encoded.

    ``<|endoftext|>`` is both end and beginning of a document, as in GPT-2; ``<|mask|>`` is the
    mask. Training is a function of the text and the size alone.
    """

    vocab_size: int = option(
        1024, ge=258, doc="number of ids: 256 bytes, merges, and 2 special tokens"
    )
    trained: ClassVar[bool] = True

    @property
    def known_size(self) -> int | None:
        """What was asked for."""
        return self.vocab_size

    def build(self, corpus: Corpus) -> TextTokenizer:
        """Train it.

        Raises:
            DataError: where the text yields fewer tokens than asked for.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[_END, _MASK],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(corpus.documents("train"), trainer=trainer)
        reached = backend.get_vocab_size(with_added_tokens=True)
        if reached < self.vocab_size:
            raise DataError(
                f"data.tokenizer.vocab_size: the training text is enough for {reached} tokens "
                f"only, {self.vocab_size} are asked for; give more text, or at most {reached}"
            )
        return wrap(backend, SpecialTokens(mask=_MASK, bos=_END, eos=_END), where="bpe")


@frozen(kw_only=True)
class Bert:
    """BERT's uncased word pieces: [CLS] begins a document, [SEP] ends it, [MASK] is the mask.

    Text is lowercased and stripped of accents, so it does not come back exactly.
    """

    path: str | None = option(
        None, doc="a local vocab.txt or tokenizer.json, or a folder that holds one"
    )
    repo: str = option("bert-base-uncased", doc="where on the hub it is, without a path")
    revision: str | None = option(None, doc="commit, tag or branch on the hub; unset: the newest")
    trained: ClassVar[bool] = False

    @property
    def known_size(self) -> int | None:
        """That of the default repository."""
        return 30522 if self.path is None and self.repo == "bert-base-uncased" else None

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Read it from `path`, or from the hub.

        Raises:
            DataError: where neither can be had.
        """
        if self.path is None:
            local = "BERT's vocab.txt or tokenizer.json"
            (path,) = from_hub(self.repo, ["tokenizer.json"], self.revision, local=local)
        else:
            path = inside(Path(self.path).expanduser(), ("tokenizer.json", "vocab.txt"))
        backend = word_pieces(path) if path.suffix == ".txt" else read_backend(path)
        special = SpecialTokens(mask="[MASK]", bos="[CLS]", eos="[SEP]", pad="[PAD]")
        return wrap(backend, special, where=str(path))


@frozen(kw_only=True)
class Gpt2:
    """GPT-2's byte-level pieces, 50,257 of them, and ``<|mask|>`` as one more; text comes back.

    ``<|endoftext|>`` is both end and beginning of a document. With the mask there are 50,258 ids,
    as in MDLM (arXiv 2406.07524), and the mask is the last, 50257.
    """

    path: str | None = option(
        None, doc="a local vocab.json (or encoder.json), or a folder that holds it and the merges"
    )
    merges: str | None = option(
        None, doc="the local merges, where they are not merges.txt or vocab.bpe beside path"
    )
    repo: str = option("gpt2", doc="where on the hub it is, without a path")
    revision: str | None = option(None, doc="commit, tag or branch on the hub; unset: the newest")
    trained: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        """Merges alone are no tokenizer."""
        if self.merges is not None and self.path is None:
            raise ValueError("merges: expected path, too: the vocabulary that they belong to")

    @property
    def known_size(self) -> int | None:
        """That of the default repository, and the mask."""
        return 50258 if self.path is None and self.repo == "gpt2" else None

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Read it from `path`, or from the hub.

        Raises:
            DataError: where neither can be had.
        """
        if self.path is None:
            local = "a folder that has GPT-2's vocab.json and merges.txt"
            names = ["vocab.json", "merges.txt"]
            vocab, merges = from_hub(self.repo, names, self.revision, local=local)
        else:
            vocab = inside(Path(self.path).expanduser(), VOCAB_NAMES)
            given = None if self.merges is None else Path(self.merges).expanduser()
            merges = merges_beside(vocab) if given is None else given
        backend = byte_pairs(vocab, merges)
        if backend.token_to_id(_END) is None:
            raise DataError(f"{vocab}: {_END} not in it; expected GPT-2's vocabulary")
        backend.add_special_tokens([_END, _MASK])
        return wrap(backend, SpecialTokens(mask=_MASK, bos=_END, eos=_END), where=str(vocab))


@frozen(kw_only=True)
class Bytes:
    """The bytes of UTF-8, ids 0 to 255, and three special tokens; every text comes back.

    256 is ``<|endoftext|>``, both end and beginning of a document, 257 padding, 258 the mask.
    """

    trained: ClassVar[bool] = False

    @property
    def known_size(self) -> int | None:
        """256 bytes and three special tokens."""
        return 259

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Make it; it depends on nothing."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        # The library writes a byte as a character: itself where that can be seen, else one from
        # 256 on, in order.
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        seen = [character for character in alphabet if ord(character) < 256]
        unseen = iter(character for character in alphabet if ord(character) >= 256)
        ids = {chr(n) if chr(n) in seen else next(unseen): n for n in range(256)}
        backend = Tokenizer(models.BPE(ids, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([_END, "<|pad|>", _MASK])
        special = SpecialTokens(mask=_MASK, bos=_END, eos=_END, pad="<|pad|>")
        return wrap(backend, special, where="bytes")


@frozen(kw_only=True)
class Text8:
    """The 27 characters of text8: a to z as ids 0 to 25, the space as 26, the mask as 27.

    Other characters are an error. With ``normalize`` a text becomes what text8 is made of
    (M. Mahoney's ``wikifil.pl``): letters in lower case, digits as words, everything else, in any
    number, one space.

    There is no token for the end of a document, so a packing must ask for none:
    ``packing = { use = "packed", eos = false }``.
    """

    normalize: bool = option(False, doc="turn other text into these characters")
    trained: ClassVar[bool] = False

    @property
    def known_size(self) -> int | None:
        """27 characters and the mask."""
        return 28

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Make it; it depends on nothing."""
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

        ids = {character: number for number, character in enumerate(f"{_LETTERS} ")}
        # No token for what is unknown: the library then refuses, and drops nothing.
        backend = Tokenizer(models.WordLevel(ids, unk_token="<|unknown|>"))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        backend.decoder = decoders.Fuse()
        if self.normalize:
            words = [normalizers.Replace(str(n), f" {word} ") for n, word in enumerate(_DIGITS)]
            letters = normalizers.Replace(Regex("[^a-z]+"), " ")
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *words, letters])
        backend.add_special_tokens([_MASK])
        return wrap(backend, SpecialTokens(mask=_MASK), where="text8")


@frozen(kw_only=True)
class Json:
    """Any ``tokenizer.json`` of the ``tokenizers`` library, local or on the hub."""

    path: str | None = option(None, doc="a local tokenizer.json, or a folder that holds one")
    repo: str | None = option(None, doc="where on the hub it is, instead of path")
    revision: str | None = option(None, doc="commit, tag or branch on the hub; unset: the newest")
    mask: str = option("<|mask|>", doc="the mask token")
    bos: str | None = option(None, doc="the token that begins a document")
    eos: str | None = option(None, doc="the token that ends a document")
    pad: str | None = option(None, doc="the padding token")
    add_mask: bool = option(False, doc="add the mask token where the file has none")
    trained: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        """It must be somewhere."""
        if self.path is None and self.repo is None:
            raise ValueError("expected path (a local tokenizer.json) or repo (on the hub)")

    @property
    def known_size(self) -> int | None:
        """Not without the file."""
        return None

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Read it from `path`, or from the hub.

        Raises:
            DataError: where it cannot be read, or lacks a token that is named.
        """
        names = ["tokenizer.json"]
        if self.path is not None:
            path = inside(Path(self.path).expanduser(), names)
        else:
            assert self.repo is not None
            (path,) = from_hub(self.repo, names, self.revision, local="its tokenizer.json")
        backend = read_backend(path)
        known = backend.get_vocab(with_added_tokens=True)
        if self.mask not in known:
            if not self.add_mask:
                raise DataError(
                    f'{path}: the mask token "{self.mask}" is not in the vocabulary'
                    f"{did_you_mean(self.mask, known)}; set data.tokenizer.mask to the one that "
                    "is, or data.tokenizer.add_mask = true to add it"
                )
            backend.add_special_tokens([self.mask])
        special = SpecialTokens(mask=self.mask, bos=self.bos, eos=self.eos, pad=self.pad)
        return wrap(backend, special, where=str(path))


TOKENIZERS: Mapping[str, type[Any]] = {
    "bpe": Bpe,
    "bert": Bert,
    "gpt2": Gpt2,
    "bytes": Bytes,
    "text8": Text8,
    "json": Json,
}
"""The closed catalogue: what ``use`` may say in ``[data.tokenizer]``."""
