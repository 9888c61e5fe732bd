"""Files that define tokenizers: from the hub or a folder, in the formats of BERT and GPT-2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mdmkit.data.hub import ask
from mdmkit.data.text_tokenizer import read_text
from mdmkit.errors import DataError
from mdmkit.hub import unreachable
from mdmkit.plain_files import parse_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PATH = "data.tokenizer.path"
"""The option that names a local copy, for messages."""

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCAB_NAMES = ("vocab.json", "encoder.json")
MERGES_NAMES = ("merges.txt", "vocab.bpe")
"""GPT-2's files by the hub's names, and by those of OpenAI's release."""


def from_hub(repo: str, names: Sequence[str], revision: str | None, *, local: str) -> list[Path]:
    """Files of a model repository on the hub, fetched now or before.

    Args:
        repo: owner/name.
        names: the files.
        revision: commit, tag or branch; None for the newest.
        local: what a local copy would be, for the message.

    Raises:
        DataError: where they cannot be had, with the ways out.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    what = f"tokenizer {repo}"
    reason = unreachable()
    if reason is None:

        def download(name: str) -> Path:
            return Path(hf_hub_download(repo, name, revision=revision))

        return [ask(what, lambda name=name: download(name), option=PATH) for name in names]  # type: ignore[misc]
    cached = [try_to_load_from_cache(repo, name, revision=revision) for name in names]
    paths = [Path(path) for path in cached if isinstance(path, str)]
    if len(paths) == len(names):
        return paths
    raise DataError(
        f"{what}: the Hugging Face hub cannot be reached: {reason}, and it was not fetched before. "
        f"Two ways out: run once with network access, or `--set {PATH}=…` with {local}"
    )


def inside(path: Path, names: Sequence[str]) -> Path:
    """The file of one of these names in a folder; a path that is no folder as it is.

    Raises:
        DataError: where the folder has none of them.
    """
    if not path.is_dir():
        return path
    for name in names:
        if (path / name).is_file():
            return path / name
    raise DataError(f"{PATH}: {str(path)!r} has neither {' nor '.join(names)}")


def merges_beside(vocab: Path) -> Path:
    """GPT-2's merges in the folder of its vocabulary.

    Raises:
        DataError: where it has none.
    """
    for name in MERGES_NAMES:
        if vocab.with_name(name).is_file():
            return vocab.with_name(name)
    raise DataError(
        f"{PATH}: {str(vocab.parent)!r} has neither {' nor '.join(MERGES_NAMES)}, which belongs to "
        f"{vocab.name}; set data.tokenizer.merges where it has another name"
    )


def word_pieces(path: Path) -> Tokenizer:
    """BERT's uncased tokenizer from its list of word pieces, one a line.

    Raises:
        DataError: where it is no such list.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = read_text(path, what="BERT's vocab.txt").removesuffix("\n").split("\n")
    pieces = [piece.removesuffix("\r") for piece in pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    missing = [name for name in BERT_SPECIAL if name not in ids]
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
    backend.add_special_tokens(list(BERT_SPECIAL))
    return backend


def byte_pairs(vocab_path: Path, merges_path: Path) -> Tokenizer:
    """GPT-2's tokenizer from its vocabulary (JSON: piece to id) and its merges (two pieces a line).

    Raises:
        DataError: where they are no such files, or do not belong together.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = _vocabulary(vocab_path)
    merges = _merges(merges_path)
    for number, (left, right) in merges:
        for piece in (left, right, left + right):
            if piece not in vocab:
                raise DataError(
                    f'{merges_path}, line {number}: the piece "{piece}" is not in {vocab_path}; '
                    "expected the merges of that vocabulary"
                )
    backend = Tokenizer(models.BPE(vocab, [pair for _, pair in merges]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _vocabulary(path: Path) -> dict[str, int]:
    what = "GPT-2's vocabulary, a JSON object of pieces and their ids"
    try:
        vocab = parse_json(read_text(path, what=what))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; expected {what}") from error
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise DataError(f"{path}: expected {what}")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise DataError(f"{path}: expected each of the ids 0 to {len(vocab) - 1} once")
    return vocab


def _merges(path: Path) -> list[tuple[int, tuple[str, str]]]:
    """Each merge with the number of its line; the first line may name a version."""
    what = "GPT-2's merges, two pieces a line"
    merges = []
    for number, line in enumerate(read_text(path, what=what).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pieces = line.split(" ")
        if len(pieces) != 2 or not all(pieces):
            raise DataError(f"{path}, line {number}: found {line!r}; expected {what}")
        merges.append((number, (pieces[0], pieces[1])))
    return merges
