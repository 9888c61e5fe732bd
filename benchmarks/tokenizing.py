"""Tokenizing a corpus into a store, by number of processes.

    python benchmarks/tokenizing.py > benchmarks/results/tokenizing.json

The text is the shipped one, several times over, each speech a document; the tokenizer is a trained
byte-level BPE. The peak memory is that of the main process; the time is that of `open_store`, from
nothing to a store that has been read back and checked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from mdmkit.builtin.corpora.state_of_the_union import StateOfTheUnion
from mdmkit.data.encoding import usable_cores
from mdmkit.data.store import Frame, open_store
from mdmkit.data.tokenizers import Bpe
from mdmkit.environment import environment
from mdmkit.protocols import Split

VOCABULARY = 8192


@frozen(kw_only=True)
class Repeated:
    """The shipped corpus, `times` times."""

    times: int
    corpus: StateOfTheUnion

    def documents(self, split: Split) -> Iterator[str]:
        for _ in range(self.times):
            yield from self.corpus.documents(split)

    def fingerprint(self, split: Split) -> str:
        return f"{self.times} x {self.corpus.fingerprint(split)}"

    def describe(self, split: Split) -> Mapping[str, Any]:
        return self.corpus.describe(split)


def anonymous_peak() -> float:
    """Megabytes of memory, at most, without what is mapped from files now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round((int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0])) / 1024, 1)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Repeated(times=options.times, corpus=StateOfTheUnion())
    tokenizer = Bpe(vocab_size=VOCABULARY).build(corpus.corpus)
    frame = Frame(after=(tokenizer.vocab.eos_id or 0,))
    rows = []
    for workers, threads in ((1, "false"), (1, "true"), (2, "true")):
        os.environ["TOKENIZERS_PARALLELISM"] = threads
        with tempfile.TemporaryDirectory() as root:
            start, before = time.perf_counter(), os.times()
            store = open_store(corpus, "train", tokenizer, frame, root=Path(root), workers=workers)
            seconds, after = time.perf_counter() - start, os.times()
            main_cpu = after.user + after.system - before.user - before.system
            others = (
                after.children_user
                + after.children_system
                - before.children_user
                - before.children_system
            )
            rows.append(
                {
                    "processes": workers,
                    "threads_of_the_library": usable_cores() if threads == "true" else 1,
                    "megabytes": round(store.counts.utf8_bytes / 1e6, 1),
                    "tokens": store.counts.tokens,
                    "seconds": round(seconds, 2),
                    "megabytes_per_second": round(store.counts.utf8_bytes / 1e6 / seconds, 2),
                    "cpu_seconds_main": round(main_cpu, 2),
                    "cpu_seconds_others": round(others, 2),
                    "peak_mb": anonymous_peak(),
                }
            )
    result = {
        "rows": rows,
        "command": f"python benchmarks/tokenizing.py {' '.join(sys.argv[1:])}".strip(),
        "cores": usable_cores(),
        "load_average": os.getloadavg(),
        "environment": environment(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
