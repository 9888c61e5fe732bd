"""Reading batches from a token store in random order, from a cold file.

    python benchmarks/data_reading.py --gigabytes 6 > benchmarks/results/data_reading.json

Makes two stores of random tokens (uint16) in a temporary folder: one that memory holds, and one of
which the reader is told that memory does not hold it, so that it asks for each block by itself.
Before each case the pages of the file are dropped from the system's cache. Read are the first
batches of an epoch: the order is `mdmkit.data.order`, the reading `TokenBlocks.batch`'s own, in one
thread. `tokens_per_second` counts all the time that passes, `tokens_per_cpu_second` this process's
own. `anonymous_growth_mb` is how much memory that is not the file's the process had more at the
end than after its first batch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen

from mdmkit.data import token_files
from mdmkit.data.cache import cache_key, make_folder
from mdmkit.data.encoding import Encoded
from mdmkit.data.order import block_rows
from mdmkit.data.packing import Packed
from mdmkit.data.read_ahead import MappedFile
from mdmkit.data.store import FORMAT, Frame, TokenStore, open_store, stores_folder
from mdmkit.data.token_files import MANIFEST, TOKENS, Filled
from mdmkit.data.token_writer import TokenWriter
from mdmkit.environment import environment
from mdmkit.protocols import Split
from mdmkit.values import Vocabulary

VOCAB = Vocabulary(size=50_258, mask_id=50_257)
DOCUMENT = 1000  # tokens
ROWS = 512
SECONDS = 8.0
MEMORY = 1 << 30  # what the reader of the large store believes to be there


@frozen(kw_only=True)
class Synthetic:
    """Corpus and tokenizer of a store that is already there."""

    tokens: int
    vocab: Vocabulary = VOCAB

    def documents(self, _split: Split) -> Iterator[str]:
        raise AssertionError("the store is there")

    @property
    def name(self) -> str:
        return f"synthetic-{self.tokens}"

    def fingerprint(self, _split: Split) -> str:
        return self.name

    def describe(self, _split: Split) -> Mapping[str, Any]:
        return {"source": self.name}


@frozen(kw_only=True)
class NoTokenizer:
    fingerprint: str = "synthetic"
    vocab: Vocabulary = VOCAB

    def encode_batch(self, _texts: Any) -> list[list[int]]:
        raise AssertionError("the store is there")

    def decode(self, _ids: Any) -> str:
        return ""


def make(root: Path, corpus: Synthetic) -> Path:
    """Write the store."""
    made_from = {
        "format": FORMAT,
        "corpus_fingerprint": corpus.fingerprint("train"),
        "tokenizer_fingerprint": NoTokenizer().fingerprint,
        "frame": {"before": [], "after": []},
    }
    folder = make_folder(stores_folder(root) / cache_key(made_from))
    documents = 20_000  # at a time
    drawn = np.random.default_rng(0).integers(0, 50_257, documents * DOCUMENT, dtype=np.uint16)
    part = Encoded(
        tokens=drawn,
        lengths=np.full(documents, DOCUMENT, dtype=np.int64),
        utf8_bytes=np.full(documents, 4 * DOCUMENT, dtype=np.int64),
    )
    with TokenWriter(folder, VOCAB, (), ()) as writer:
        for _ in range(-(-corpus.tokens // len(drawn))):
            writer.append(part)
        counts, files = writer.sync()
    Filled(made_from=made_from, about={}, dtype=writer.dtype.str, counts=counts, files=files).write(
        folder / MANIFEST
    )
    return folder


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return round(time.perf_counter() - start, 4), result


def drop(folder: Path) -> None:
    """Have the system forget the pages of the store's files."""
    for path in folder.glob("*.bin"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def anonymous() -> float:
    """Megabytes of memory that no file stands behind."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def read(store: TokenStore, length: int, most: int) -> dict[str, Any]:
    """Batches of the first epoch (of further ones, if it is short) for some seconds."""
    cut = Packed(eos=False).cut(store, length, VOCAB)
    cut.batch(torch.zeros(ROWS, dtype=torch.int64))
    memory, start, cpu = anonymous(), time.perf_counter(), time.process_time()
    position = 0
    while time.perf_counter() - start < SECONDS and position * length < most:
        cut.batch(block_rows(1, len(cut), position, position + ROWS))
        position += ROWS
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    return {
        "length": length,
        "rows": ROWS,
        "tokens_read": position * length,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(position * length / seconds),
        "tokens_per_cpu_second": round(position * length / busy),
        "anonymous_growth_mb": round(anonymous() - memory, 1),
    }


def case(root: Path, tokens: int, memory: int | None) -> dict[str, Any]:
    """Opening and reading one store."""
    corpus = Synthetic(tokens=tokens)
    folder = make(root, corpus)

    def opened() -> TokenStore:
        return open_store(corpus, "train", NoTokenizer(), Frame(), root=root)

    drop(folder)
    token_files._ALWAYS_HASHED, small = 0, token_files._ALWAYS_HASHED
    first, _ = timed(opened)
    again, store = timed(opened)
    token_files._ALWAYS_HASHED = small

    def read_cold(length: int) -> dict[str, Any]:
        drop(folder)  # nothing may have the pages mapped then: such pages stay
        file = MappedFile(folder / TOKENS, store.tokens.dtype, memory=memory)
        return read(evolve(store, tokens=file.array, file=file), length, store.counts.tokens)

    return {
        "bytes": (folder / TOKENS).stat().st_size,
        "reader_told_of_memory": memory,
        "seconds_to_open_hashing_all_from_the_disk": first,
        "seconds_to_open_believing_the_stamp": again,
        "reads": [read_cold(length) for length in (128, 1024)],
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=6.0, help="of the large store")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores are made")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cases = [
            case(Path(folder), 200_000_000, None),
            case(Path(folder), int(options.gigabytes * 5e8), MEMORY),
        ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes
    result = {
        "cases": cases,
        "command": f"python benchmarks/data_reading.py {' '.join(sys.argv[1:])}".strip(),
        "peak_resident_mb_with_file_pages": peak // 1024,
        "numpy": np.__version__,
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "environment": environment(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
