from __future__ import annotations

import io

import pytest
from rich.console import Console

from mdmkit.data import tokenization
from mdmkit.data.token_files import Counts
from mdmkit.data.tokenization import Progress
from mdmkit.report.tokenizing import Teller

COUNTS = Counts(documents=1234, tokens=5_678_901, utf8_bytes=20_000_000, without_tokens=1)
PROGRESS = Progress(counts=COUNTS, seconds=4.0, bytes_per_second=5e6)
WORDS = "1,234 documents, 5,678,901 tokens, 5.0 MB/s"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_moving_line_on_a_terminal_and_plain_lines_elsewhere(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "_SAY_SECONDS", 0.0)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    teller = Teller(console)
    with teller.watching("train") as watch:
        teller.notify("tokenizing [the] split")
        watch(PROGRESS)
    said = console.file.getvalue()
    assert "tokenizing [the] split" in said
    assert WORDS in said
    assert ("\x1b" in said) == terminal
    assert terminal or said.splitlines()[1] == f"  {WORDS} so far"
