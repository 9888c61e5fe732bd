"""What is shown of a run, on terminals of any size and without one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from attrs import evolve

from mdmkit.report.run_list import run_lines
from mdmkit.report.run_view import news_lines, view_lines
from mdmkit.report.text_plot import Point, plot_lines
from mdmkit.runs.follow import View
from mdmkit.runs.health import Surroundings, findings
from mdmkit.runs.history import History
from mdmkit.runs.status import RunStatus
from mdmkit.samples_log import LoggedSample, LoggedSamples

from .runs.folders import line, validation, window

FALLING = [Point(step=step, value=11 - step) for step in range(1, 11)]


def view() -> View:
    lines = [line(window(step, 6 - step / 50)) for step in range(100)]
    lines += [line(validation(step, 6 - step / 40, 0.3)) for step in range(0, 100, 20)]
    text = LoggedSample(text="on\x1b[2Jce \n upon", length=0, network_evaluations=(), states=())
    logged = LoggedSamples(
        step=80, ema=True, sampler={}, seed=0, vocab_size=9, samples=(text, text)
    )
    history = History.of(lines)
    status = RunStatus(
        directory=Path("runs/made-0"), state="running", steps=200, step=99, best=history.best
    )
    odd = ("the disk is nearly full",)
    return View(status=status, history=history, samples=logged, findings=odd)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 12), (30, 5), (10, 1)])
def test_it_fits_the_terminal(width: int, height: int, ascii_only: bool) -> None:
    lines = view_lines(view(), width=width, height=height, ascii_only=ascii_only)
    assert len(lines) <= height
    assert all(text.cell_len <= width for text in lines)
    shown = "\n".join(text.plain for text in lines)
    assert "\x1b" not in shown
    assert not ascii_only or shown.replace("±", "").isascii()
    if width >= 80:
        for words in (
            "made-0  running at step 99 of 200  ETA 1m41s",
            "24.3k tokens/s  loss 4.0200  learning rate 0.001  gradient norm 1  clipped 25%",
            "best validation NELBO 4.00 ± 0.30 (step 80) nats/token",
            "! the disk is nearly full",
            "validation NELBO, nats/token",
            "training loss",
            "generated at step 80",
            "on\\x1b[2Jce upon",
        ):
            assert words in shown


def test_a_wide_terminal_has_the_curves_beside_each_other() -> None:
    def titles(width: int) -> list[str]:
        lines = view_lines(view(), width=width, height=40)
        return [text.plain for text in lines if "training loss" in text.plain]

    (wide,), (narrow,) = titles(120), titles(80)
    assert wide.startswith("validation NELBO, nats/token")
    assert narrow == "training loss"


def test_a_curve_in_ascii() -> None:
    assert plot_lines(FALLING, width=20, height=6, ascii_only=True) == [
        "       10|**",
        "         |  ***",
        "         |     ***",
        "        1|        **",
        "         +----------",
        "          1       10",
    ]


def test_a_curve_in_braille_with_errors() -> None:
    points = [Point(step=0, value=0.0), Point(step=1, value=1.0, stderr=1.0)]
    lines = plot_lines(points, width=20, height=4)
    assert lines[0] == "        2│         ⢸"
    assert lines[1] == "        0│⣀⣀⠤⠤⠤⠒⠒⠒⠉⢹"


def test_what_cannot_be_drawn_is_left_out() -> None:
    odd = [Point(step=1, value=math.nan), Point(step=2, value=math.inf)]
    odd += [Point(step=4, value=1e308, stderr=1e308), Point(step=5, value=0.0, stderr=-1.0)]
    assert plot_lines(odd, width=40, height=10) == []
    assert plot_lines([], width=40, height=10) == []
    assert plot_lines(FALLING, width=19, height=10) == []
    assert plot_lines(FALLING, width=40, height=3) == []
    one = plot_lines([Point(step=3, value=0.0), *odd], width=30, height=6, ascii_only=True)
    assert sum(text.count("*") for text in one) == 1


def test_the_first_steps_do_not_flatten_what_follows() -> None:
    points = [Point(step=0, value=1000.0), *(Point(step=s, value=2.0) for s in range(50, 100))]
    points.append(Point(step=100, value=1.0))
    top, *_ = plot_lines(points, width=30, height=6, ascii_only=True)
    assert top.startswith("        2|*")


def test_many_points_are_drawn_by_their_extremes() -> None:
    points = [Point(step=step, value=float(step % 7)) for step in range(20_000)]
    lines = plot_lines(points, width=60, height=10)
    assert lines[0].startswith("        6│")
    assert lines[-3].startswith("        0│")


def test_the_ends_of_a_narrow_range_are_told_apart() -> None:
    points = [Point(step=step, value=3 + step * 1e-5) for step in range(5)]
    lines = plot_lines(points, width=40, height=8, ascii_only=True)
    assert (lines[0].split("|")[0].strip(), lines[5].split("|")[0].strip()) == ("3.00004", "3")


def test_the_errors_of_many_points_do_not_fill_the_plot() -> None:
    points = [Point(step=step, value=0.01 * step, stderr=1.0) for step in range(40)]

    def bars(count: int) -> int:
        lines = plot_lines(points[:count], width=70, height=12, ascii_only=True)
        return sum(text[10:].count("|") for text in lines)

    assert bars(30) > 100
    assert bars(31) == 0


def test_a_name_stays_on_its_line() -> None:
    def odd(name: str) -> RunStatus:
        return evolve(view().status, directory=Path("runs") / name, state="interrupted")

    _, line = run_lines([odd("a\nb\t\u202ec")], now=0.0)
    assert line.startswith("a\\nb\\t\\u202ec  interrupted")
    (head, *_) = view_lines(evolve(view(), status=odd("a\nb\u202e")), width=80, height=9)
    assert head.plain.startswith("a\\nb\\u202e  interrupted")


def test_news_without_a_terminal() -> None:
    new = (window(10), validation(10, 3.0), {"step": 10, "train/grad_noise_trace": 2.0})
    assert list(news_lines(evolve(view(), new=new))) == [
        "step 10/200  loss 2.0000  gradient norm 1  24.3k tokens/s",
        "step 10/200  validation NELBO 3.000 ± 0.010 nats/token",
    ]


@pytest.mark.parametrize("value", [1e308, 1e98, -1e98])
def test_figures_without_measure_fit_too(value: float) -> None:
    lines = [line(window(step, value, grad_norm=abs(value))) for step in range(60)]
    lines += [line(validation(step, value * (1 + step), abs(value))) for step in (10, 20, 30)]
    lines.append(line({"step": 60, "seconds": abs(value), "train/loss": value}))
    history = History.of(lines)
    assert (history.damaged > 0) == (value == 1e308)
    status = RunStatus(directory=Path("made-0"), state="running", steps=200, best=history.best)
    odd = findings(history, status, Surroundings())
    shown = view_lines(
        View(status=status, history=history, findings=tuple(odd)), width=80, height=40
    )
    new = [*news_lines(evolve(view(), new=tuple(history.add(lines)))), *odd]
    assert all(len(text) < 130 for text in [*new, *(text.plain for text in shown)])


def test_a_count_below_0_is_none() -> None:
    history = History.of([line(window(5, nonfinite_steps=-5)), line(validation(5, 2.0, -0.3))])
    assert (history.damaged, history.windows, history.validations) == (2, [], [])
