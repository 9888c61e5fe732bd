"""The tokenizers a recipe may name: trained byte-level BPE, BERT's word pieces, or a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import frozen

from mdmkit.data.hub import ask, unreachable
from mdmkit.data.text_tokenizer import SpecialTokens, TextTokenizer, read_backend, read_text, wrap
from mdmkit.errors import DataError
from mdmkit.options import option
from mdmkit.protocols import Corpus
from mdmkit.suggest import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PATH = "data.tokenizer.path"


class TokenizerOptions(Protocol):
    """Options of a tokenizer, for the table ``[data.tokenizer]``.

    Attributes:
        trained: whether it is trained on the corpus (and is therefore worth caching).
    """

    trained: ClassVar[bool]

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

    def build(self, corpus: Corpus) -> TextTokenizer:
        """Train it.

        Raises:
            DataError: where the text yields fewer tokens than asked for.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        special = SpecialTokens(mask="<|mask|>", bos="<|endoftext|>", eos="<|endoftext|>")
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=["<|endoftext|>", "<|mask|>"],
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
        return wrap(backend, special, where="bpe")


@frozen(kw_only=True)
class Bert:
    """BERT's uncased word pieces: [CLS] begins a document, [SEP] ends it, [MASK] is the mask.

    Text is lowercased and stripped of accents, so it does not come back exactly.
    """

    path: str | None = option(
        None, doc="a local vocab.txt or tokenizer.json, or a folder that holds one"
    )
    repo: str = option("bert-base-uncased", doc="where on the hub it is, without a path")
    trained: ClassVar[bool] = False

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Read it from `path`, or from the hub.

        Raises:
            DataError: where neither can be had.
        """
        path = self._from_hub() if self.path is None else _inside(Path(self.path).expanduser())
        backend = _word_pieces(path) if path.suffix == ".txt" else read_backend(path)
        special = SpecialTokens(mask="[MASK]", bos="[CLS]", eos="[SEP]", pad="[PAD]")
        return wrap(backend, special, where=str(path))

    def _from_hub(self) -> Path:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        reason = unreachable()
        if reason is None:
            name = f"tokenizer {self.repo}"
            return Path(
                ask(name, lambda: hf_hub_download(self.repo, "tokenizer.json"), option=_PATH)
            )
        cached = try_to_load_from_cache(self.repo, "tokenizer.json")
        if isinstance(cached, str):
            return Path(cached)
        raise DataError(
            f"tokenizer {self.repo}: the Hugging Face hub cannot be reached: {reason}, and it was "
            f"not fetched before. Two ways out: run once with network access, or "
            f"`--set {_PATH}=…` with BERT's vocab.txt or tokenizer.json"
        )


@frozen(kw_only=True)
class Json:
    """Any ``tokenizer.json`` of the ``tokenizers`` library."""

    path: str = option(doc="the local tokenizer.json")
    mask: str = option("<|mask|>", doc="the mask token")
    bos: str | None = option(None, doc="the token that begins a document")
    eos: str | None = option(None, doc="the token that ends a document")
    pad: str | None = option(None, doc="the padding token")
    add_mask: bool = option(False, doc="add the mask token where the file has none")
    trained: ClassVar[bool] = False

    def build(self, corpus: Corpus) -> TextTokenizer:  # noqa: ARG002 - not trained
        """Read it.

        Raises:
            DataError: where it cannot be read, or lacks a token that is named.
        """
        path = Path(self.path).expanduser()
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


TOKENIZERS: Mapping[str, type[Any]] = {"bpe": Bpe, "bert": Bert, "json": Json}
"""The closed catalogue: what ``use`` may say in ``[data.tokenizer]``."""


def _inside(path: Path) -> Path:
    """The tokenizer file in a folder; anything else as it is."""
    if not path.is_dir():
        return path
    for name in ("tokenizer.json", "vocab.txt"):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{_PATH}: {str(path)!r} has neither tokenizer.json nor vocab.txt")


def _word_pieces(path: Path) -> Tokenizer:
    """BERT's uncased tokenizer from its list of word pieces, one a line."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = read_text(path, what="BERT's vocab.txt").removesuffix("\n").split("\n")
    pieces = [piece.removesuffix("\r") for piece in pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    missing = [name for name in names if name not in ids]
    if missing:
        raise DataError(
            f"{path}: {', '.join(missing)} not in it; expected BERT's vocab.txt, one piece a line"
        )
    if len(ids) != len(pieces):
        twice = next(p for number, p in enumerate(pieces) if ids[p] != number)
        raise DataError(f'{path}: the piece "{twice}" stands there twice; expected each once')
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.add_special_tokens(names)
    return backend
