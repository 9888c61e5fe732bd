"""The outcome of a run in words: whole, whatever the width and whoever reads."""

from __future__ import annotations

import io
import re

import pytest
from attrs import evolve
from rich.console import Console

from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.generate import Sample
from mdmkit.evaluation.infilling.gap_lengths import Candidate
from mdmkit.evaluation.samples import FilledGap
from mdmkit.report.tables import columns, print_results, print_samples, printable
from mdmkit.values import Measurement

PROVENANCE = {
    "split": "test",
    "blocks": 813,
    "draws": 4,
    "checkpoint": {"step": 1000, "ema": True},
}
NUMBERS = {
    "nelbo_per_token": Measurement(value=3.791234, stderr=0.00831, unit="nats/token"),
    "ppl": Measurement(value=44.31, stderr=0.37),
}


def result(numbers: dict[str, Measurement], **provenance: object) -> Result:
    return Result(label="x", measurements=numbers, provenance=provenance)


def console(kind: str, width: int = 80) -> Console:
    return Console(
        file=io.StringIO(), width=width, force_terminal=kind == "terminal", color_system=None
    )


def said(target: Console) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", target.file.getvalue())


def sample(text: str, row: int = 0) -> Sample:
    return Sample(
        text=text, ids=(1, 2), row=row, seed=7, sampler="ancestral", network_evaluations=128
    )


@pytest.mark.parametrize("kind", ["terminal", "file"])
def test_results_are_a_title_and_aligned_lines(kind):
    target = console(kind)
    print_results(target, {"test": result(NUMBERS, **PROVENANCE), "[b]x[/b]": result(NUMBERS)})
    assert said(target).splitlines() == [
        "test · split test · 813 blocks × 4 draws · step 1000, EMA",
        "  number           value ± standard error  unit",
        "  nelbo_per_token  3.7912 ± 0.0083         nats/token",
        "  ppl              44.31 ± 0.37",
        "",
        "[b]x[/b]",
        "  number           value ± standard error  unit",
        "  nelbo_per_token  3.7912 ± 0.0083         nats/token",
        "  ppl              44.31 ± 0.37",
    ]


def test_one_is_said_in_the_singular_and_raw_weights_are_named():
    target = console("file")
    checkpoint = {"step": 3, "ema": False}
    facts = {"blocks": 1, "draws": 1, "checkpoint": checkpoint}
    print_results(target, {"e": result(NUMBERS, **facts)})
    assert said(target).splitlines()[0] == "e · 1 block × 1 draw · step 3, no EMA"


@pytest.mark.parametrize("kind", ["terminal", "file"])
@pytest.mark.parametrize("width", [20, 80])
def test_nothing_is_cut_however_long_or_narrow(kind, width):
    label, name, unit = "label-" * 30, "a_long_number_" * 10, "nats/" * 20
    target = console(kind, width)
    number = Measurement(value=3.791234, stderr=0.00831, unit=unit)
    print_results(target, {label: result({name: number}, **PROVENANCE)})
    shown = said(target)
    for part in (label, name, unit, "3.7912 ± 0.0083", "813 blocks × 4 draws", "step 1000, EMA"):
        assert part in shown
    assert "…" not in shown
    assert len(shown.splitlines()) == 3  # the terminal wraps by itself, so that lines copy whole


def test_generated_text_is_printed_as_it_is():
    target = console("file")
    text = "[red]not markup[/red] <|endoftext|> [/]\nsecond line " + "word " * 30
    print_samples(target, [sample(text), sample("more", row=1)])
    assert said(target).splitlines() == [
        "sample 0 · seed 7 · ancestral · 128 network evaluations",
        "  [red]not markup[/red] <|endoftext|> [/]",
        "  " + "second line " + "word " * 30,
        "",
        "sample 1 · seed 7 · ancestral · 128 network evaluations",
        "  more",
    ]


def test_on_a_terminal_text_keeps_its_margin():
    target = console("terminal", width=24)
    print_samples(target, [sample("one two three four five six\n\n" + "x" * 30)])
    assert [line.rstrip() for line in said(target).splitlines()[1:]] == [
        "  one two three four",
        "  five six",
        "",
        "  " + "x" * 22,
        "  " + "x" * 8,
    ]


def test_generated_control_characters_reach_no_terminal():
    assert printable("a\x1b[2Jb\r\x07\x9b5n\tc\n") == "a\\x1b[2Jb\\r\\x07\\x9b5n\tc\n"
    target = console("file")
    print_samples(target, [sample("\x1b]0;title\x07\x08")])
    assert "\\x1b]0;title\\x07\\x08" in said(target)


def test_columns_are_as_wide_as_their_widest_cell():
    assert list(columns([("a", "b", ""), ("wide", "", "end")])) == ["a     b", "wide     end"]


def filled() -> Sample:
    return evolve(
        sample("a [red]\x07\nb."),
        template="a [MASK:1-2]b.",
        template_id="x",
        gaps=(FilledGap(text="[red]\x07\n", start=1, stop=2, text_start=2, text_stop=9),),
        nelbo=3.0,
        candidates=(Candidate(lengths=(1,), nelbo=3.0, nelbo_stderr=0.1, chosen=True),) * 2,
    )


def test_what_was_generated_stands_out_from_what_was_given():
    target = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    print_samples(target, [filled()])
    first, second = target.file.getvalue().splitlines()[1:]
    assert first == "  a \x1b[36m[red]\\x07\x1b[0m"
    assert second == "  b."
    head = said(target).splitlines()[0]
    assert head.startswith("sample 0 · template x · seed 7 · ancestral · 128")
    assert head.endswith(" · gap of 1, the best of 2")


def test_without_a_terminal_gaps_are_plain():
    target = console("file")
    print_samples(target, [filled()])
    assert said(target).splitlines()[1:] == ["  a [red]\\x07", "  b."]
