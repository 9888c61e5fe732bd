"""A process that tokenizes: ``python -m mdmkit.data.encoding_process``.

On standard input comes the tokenizer's definition, then chunks of documents; on standard output
go their ids. It ends with its input. `mdmkit.data.encoding` starts it.
"""

from __future__ import annotations

import signal
import sys

import numpy as np

from mdmkit.data.encoding import encode
from mdmkit.data.frames import receive, send
from mdmkit.data.text_tokenizer import defined_tokenizer
from mdmkit.data.token_files import token_dtype
from mdmkit.errors import DataError


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one who started us acts
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        (definition,) = receive(source)
        tokenizer = defined_tokenizer(definition.decode())
        narrow = token_dtype(tokenizer.vocab.size)
        while True:
            sizes, text = receive(source)
            ends = np.cumsum(np.frombuffer(sizes, dtype=np.int64)).tolist()
            starts = [0, *ends[:-1]]
            texts = [text[a:b].decode() for a, b in zip(starts, ends, strict=True)]
            try:
                found = encode(tokenizer, texts)
            except DataError as error:
                send(sink, b"error", str(error).encode())
                continue
            tokens = found.tokens
            if tokens.size and tokens.max() < tokenizer.vocab.size:  # else the writer says so
                tokens = tokens.astype(narrow)
            send(sink, b"ok", tokens.dtype.str.encode(), tokens.tobytes(), found.lengths.tobytes())
    except (EOFError, BrokenPipeError):
        pass


if __name__ == "__main__":
    main()
