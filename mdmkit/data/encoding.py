"""Documents to ids, in order, on as many processes as asked for.

Processes and not threads: turning the library's encodings into arrays holds Python's lock, which
threads would share. Measured on two cores: processes give 1.9 to 2.0 times the speed of one, the
library's own threads 1.4 to 1.9 times, and the main process is left with a few percent of a core.
The result is that of one process, whatever their number: a document is encoded by itself, and the
chunks come back in the order they were sent.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

import mdmkit
from mdmkit.data.frames import receive, send
from mdmkit.data.text_tokenizer import TextTokenizer
from mdmkit.errors import DataError
from mdmkit.protocols import Tokenizer

_CHUNK_CHARACTERS = 1 << 20  # bounds the memory of tokenization, together with the next
_CHUNK_DOCUMENTS = 1 << 14
_ALONE_CHARACTERS = 1 << 23  # so little is done before other processes would have started


@frozen(kw_only=True, eq=False)
class Encoded:
    """Some documents in a row.

    Attributes:
        tokens: ``[n]`` integers, the ids of all of them.
        lengths: ``[documents]`` int64, how many ids each has; 0 where the tokenizer found none.
        utf8_bytes: ``[documents]`` int64, the size of each document's text.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """Tokenize `texts` in this process.

    Raises:
        DataError: where the tokenizer cannot.
    """
    found = tokenizer.encode_batch(texts)
    lengths = np.array([len(ids) for ids in found], dtype=np.int64)
    tokens = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=int(lengths.sum()))
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    return Encoded(tokens=tokens, lengths=lengths, utf8_bytes=sizes)


def encoded(
    documents: Iterable[str], tokenizer: Tokenizer, workers: int | None = None
) -> Iterator[Encoded]:
    """Tokenize `documents`, in order, in chunks of bounded size.

    Args:
        documents: any number of them.
        tokenizer: only a `TextTokenizer` can be sent to other processes.
        workers: how many processes; 1 for this one alone (in which the tokenizers library uses
            threads of its own), None for one a core. They start once there is enough to do.

    Raises:
        DataError: where the tokenizer cannot, or a process died.
    """
    workers = usable_cores() if workers is None else workers
    chunks = _chunks(documents)
    characters = 0
    for texts in chunks:
        yield encode(tokenizer, texts)
        characters += sum(map(len, texts))
        if characters >= _ALONE_CHARACTERS and workers > 1 and isinstance(tokenizer, TextTokenizer):
            yield from _in_processes(chunks, tokenizer, workers)


def usable_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux tells
        return os.cpu_count() or 1


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of bounded size, so that memory does not grow with the corpus."""
    chunk: list[str] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document)
        if characters >= _CHUNK_CHARACTERS or len(chunk) >= _CHUNK_DOCUMENTS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _in_processes(
    chunks: Iterator[list[str]], tokenizer: TextTokenizer, workers: int
) -> Iterator[Encoded]:
    idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()

    def work(texts: list[str]) -> Encoded:
        process = idle.get()
        try:
            return process.encode(texts)
        finally:
            idle.put(process)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="tokenizing"))
        for _ in range(workers):  # they end before the pool is waited for
            idle.put(stack.enter_context(_Process(tokenizer)))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        ahead: deque[Future[Encoded]] = deque()
        for texts in chunks:
            ahead.append(pool.submit(work, texts))
            if len(ahead) > 2 * workers:  # enough that nobody waits for the slowest
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Process:
    """A process that tokenizes (`mdmkit.data.encoding_process`), started by its command.

    Not by `multiprocessing`: a fork is unsafe beside the threads of torch and of the tokenizers
    library, and its other ways run the main script again, which must then be written for that.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        paths = (str(Path(mdmkit.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        self._process = subprocess.Popen(
            # -P: a module in the working directory must not stand for one of Python's own
            [sys.executable, "-P", "-m", "mdmkit.data.encoding_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TOKENIZERS_PARALLELISM": "false",  # the processes are the parallelism
            },
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._definition: str | None = tokenizer.definition()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._from.close()
        with suppress(BrokenPipeError):  # it had not read all of what it was sent
            self._to.close()

    def encode(self, texts: list[str]) -> Encoded:
        try:
            if self._definition is not None:
                send(self._to, self._definition.encode())
                self._definition = None
            pieces = [text.encode() for text in texts]
            sizes = np.array([len(piece) for piece in pieces], dtype=np.int64)
            send(self._to, sizes.tobytes(), b"".join(pieces))
            status, *parts = receive(self._from)
        except (EOFError, BrokenPipeError) as error:
            raise DataError(
                f"a process that tokenizes ended with status {self._process.wait()}; expected it "
                "to go on. If it was killed for lack of memory (status -9), use fewer, for example "
                "with `mdmkit data prepare --workers 2`"
            ) from error
        if status != b"ok":
            raise DataError(parts[0].decode())
        kind, tokens, lengths = parts
        return Encoded(
            tokens=np.frombuffer(tokens, dtype=np.dtype(kind.decode())),
            lengths=np.frombuffer(lengths, dtype=np.int64),
            utf8_bytes=sizes,
        )
