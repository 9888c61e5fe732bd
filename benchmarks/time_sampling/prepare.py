"""Text for the experiment: whole public-domain books as jsonl, one document a line.

    python benchmarks/time_sampling/prepare.py CLASSICS OUT --megabytes 60

``CLASSICS`` is a folder with ``corpus/classics60m.train.gpt2.u16.xz`` (GPT-2 token ids,
little-endian uint16, 50256 after each book), ``corpus/classics.valid.txt.xz`` (other books) and
GPT-2's vocabulary as ``tokenizers/gpt2_encoder.json`` and ``tokenizers/gpt2_vocab.bpe``. ``OUT``
gets ``train.jsonl`` (a book a document) and, cut at blank lines into passages of about 8,000
characters, ``validation.jsonl`` (the first two thirds of the other books) and ``test.jsonl`` (the
rest). Passages are the documents over which errors are bootstrapped.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import ByteLevelBPETokenizer

from mdmkit.files import write_atomic

END_OF_BOOK = 50256
CHUNK = 1 << 22  # bytes
PASSAGE = 8_000  # characters


def books(classics: Path, megabytes: float) -> Iterator[str]:
    """Whole books until there is so much text."""
    tokenizer = ByteLevelBPETokenizer(
        str(classics / "tokenizers/gpt2_encoder.json"), str(classics / "tokenizers/gpt2_vocab.bpe")
    )
    written, rest = 0, np.empty(0, dtype="<u2")
    with lzma.open(classics / "corpus/classics60m.train.gpt2.u16.xz") as stream:
        while written < megabytes * 1e6 and (chunk := stream.read(CHUNK)):
            rest = np.concatenate([rest, np.frombuffer(chunk, dtype="<u2")])
            *whole, rest = np.split(rest, np.flatnonzero(rest == END_OF_BOOK) + 1)
            for ids in whole:
                text = tokenizer.decode(ids[:-1].tolist())
                yield text
                written += len(text.encode())
                if written >= megabytes * 1e6:
                    return


def passages(text: str) -> Iterator[str]:
    """Pieces of about `PASSAGE` characters, cut between paragraphs."""
    piece: list[str] = []
    for paragraph in text.split("\n\n"):
        piece.append(paragraph)
        if sum(map(len, piece)) >= PASSAGE:
            yield "\n\n".join(piece)
            piece = []
    if piece:
        yield "\n\n".join(piece)


def write(path: Path, documents: Iterator[str]) -> None:
    """One JSON object a line, key ``text``."""
    lines = [json.dumps({"text": document}, ensure_ascii=False) for document in documents]
    write_atomic(path, "\n".join(lines) + "\n")
    print(f"{path}: {len(lines)} documents, {path.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("classics", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", type=float, default=60, help="of training text")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(arguments.out / "train.jsonl", books(arguments.classics, arguments.megabytes))
    with lzma.open(arguments.classics / "corpus/classics.valid.txt.xz", "rt") as stream:
        held_out = list(passages(stream.read()))
    split = len(held_out) * 2 // 3
    write(arguments.out / "validation.jsonl", iter(held_out[:split]))
    write(arguments.out / "test.jsonl", iter(held_out[split:]))


if __name__ == "__main__":
    main()
