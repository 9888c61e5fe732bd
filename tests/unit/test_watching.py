"""Text that is unmasked on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mdmkit.evaluation.sample_states import GLYPH, PartialText, Piece, SampleState
from mdmkit.report.watching import PAUSE, shown, watching


def console(encoding: str = "utf-8", **size: int) -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="")
    return Console(file=file, force_terminal=True, color_system="standard", **size)


def said(target: Console) -> str:
    target.file.flush()
    return target.file.buffer.getvalue().decode(target.file.encoding)


def lines(target: Console, state: SampleState) -> list[str]:
    target.print(shown(target, state))
    return re.sub(r"\x1b\[[0-9;]*m", "", said(target)).splitlines()


def text(row: int, *pieces: Piece, masks: int = 1) -> PartialText:
    return PartialText(
        place=row, row=row, template_id=None, ids=(), masks=masks, pieces=tuple(pieces)
    )


def state(*texts: PartialText, step: int = 3) -> SampleState:
    return SampleState(texts=texts, step=step, network_evaluations=2)


MIXED = text(
    0,
    Piece(text="The [red]", kind="given"),
    Piece(text=GLYPH * 2, kind="masked"),
    Piece(text=" sea\x1b[2J", kind="new"),
    Piece(text="\n.", kind="generated"),
    masks=2,
)


def test_a_state_is_figures_and_texts():
    assert lines(console(width=80, height=24), state(MIXED)) == [
        "step 3 · 2 network evaluations · 2 masks",
        "sample 0",
        r"The [red]░░ sea\x1b[2J",
        ".",
    ]


def test_what_is_new_stands_out():
    target = console(width=80, height=24)
    target.print(shown(target, state(MIXED)))
    assert re.search(r"\x1b\[1;7m sea\\x1b\[2J\x1b\[0m", said(target))
    assert "\x1b[2m░░\x1b[0m" in said(target)
    assert "\x1b[36m.\x1b[0m" in said(target)


def test_a_terminal_without_the_glyph_gets_another():
    found = lines(console("ascii", width=80, height=24), state(MIXED))
    assert found[2] == r"The [red]__ sea\x1b[2J"


@pytest.mark.parametrize("height", [5, 8])
def test_only_what_has_room_is_shown(height):
    long = Piece(text="x" * 25, kind="generated")
    found = lines(console(width=60, height=height), state(*(text(i, long) for i in range(5))))
    assert len(found) <= height - 1
    shown_texts = (height - 2) // 2
    assert found[0].endswith(f"· {shown_texts} of 5 texts")
    assert found.count("x" * 25) == shown_texts


def test_a_text_longer_than_the_terminal_is_cut_there_alone():
    found = lines(console(width=10, height=6), state(text(0, Piece(text="y" * 99, kind="new"))))
    assert [len(line) for line in found[2:]] == [10, 10, 10]


def test_states_that_come_too_fast_are_passed_over_and_all_is_gone_in_the_end():
    target, times = console(width=80, height=24), iter([0.0, PAUSE / 2, PAUSE, PAUSE * 1.2])
    with watching(target, clock=lambda: next(times)) as show:
        for step in range(3):
            show(state(MIXED, step=step))
        show(state(text(0, Piece(text="done", kind="new"), masks=0), step=9))
    found = said(target)
    assert [step for step in range(10) if f"step {step} " in found] == [0, 2, 9]
    assert found.rstrip().endswith("\x1b[2K")
