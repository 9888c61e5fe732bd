from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.generate import Sample
from mdmkit.report.console import RunReporter, quiet
from mdmkit.report.counting import counting
from mdmkit.report.numbers import duration, rate, with_error
from mdmkit.values import Measurement

NUMBER = Measurement(value=3.791234, stderr=0.00831, unit="nats/token")
RESULTS = {
    "[bold]label[/bold]": Result(
        label="x",
        measurements={"nelbo_per_token": NUMBER, "ppl": Measurement(value=44.31, stderr=0.37)},
        provenance={
            "split": "test",
            "blocks": 813,
            "draws": 4,
            "checkpoint": {"step": 1000, "ema": True},
        },
    )
}
SAMPLES = [
    Sample(
        text="[red]not markup[/red] <|endoftext|> [/]",
        ids=(1, 2),
        row=0,
        seed=7,
        sampler="ancestral",
        network_evaluations=128,
    )
]


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=False)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)


def said(console: Console) -> str:
    return console.file.getvalue()


def visible(console: Console) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said(console))


def test_without_a_terminal_there_are_plain_lines_now_and_then():
    console, clock = plain(), Clock()
    reporter = RunReporter(console, clock=clock)
    reporter.start(total=100, done=20)
    for step in range(30, 101, 10):
        clock.now += 4.0
        reporter.step(step, loss=step / 10, tokens_per_second=12_345.0)
    reporter.close()
    assert said(console).splitlines() == [
        "step 50/100  loss 5.0000  12.3k tokens/s  ETA 20s",
        "step 80/100  loss 8.0000  12.3k tokens/s  ETA 8s",
        "step 100/100  loss 10.0000  12.3k tokens/s  ETA 0s",
    ]
    assert "\x1b" not in said(console)


def test_validation_is_always_said():
    console = plain()
    reporter = RunReporter(console, clock=Clock())
    reporter.start(total=100, done=0)
    reporter.validation(0, NUMBER)
    reporter.validation(50, NUMBER)
    assert said(console).splitlines() == [
        "step 0/100  validation NELBO 3.7912 ± 0.0083 nats/token",
        "step 50/100  validation NELBO 3.7912 ± 0.0083 nats/token",
    ]


def test_on_a_terminal_there_is_a_bar_and_messages_stand_above_it():
    console = terminal()
    reporter = RunReporter(console)
    reporter.start(total=100, done=0)
    reporter.step(10, loss=4.5678, tokens_per_second=999.0)
    reporter.validation(10, NUMBER)
    reporter.notify("[red]a message")
    reporter.step(50, loss=4.25, tokens_per_second=999.0)
    reporter.close()
    shown = visible(console)
    assert "[red]a message" in shown
    assert "validation NELBO 3.7912 ± 0.0083" in shown
    last = shown.rstrip().splitlines()[-1]
    for part in ("step 50/100", "loss 4.2500", "999 tokens/s", "val 3.7912", "ETA"):
        assert part in last


def test_a_bar_can_be_closed_twice_and_started_again():
    console = terminal()
    reporter = RunReporter(console)
    reporter.close()
    for _ in range(2):
        reporter.start(total=5, done=0)
        reporter.step(5, loss=1.0, tokens_per_second=1.0)
        reporter.close()
        reporter.close()
    assert "step 5/5" in visible(console)


def test_the_summary_says_where_and_what_next():
    console = plain()
    directory = Path("runs/with space") / ("x" * 90)
    RunReporter(console).summary(directory, RESULTS, SAMPLES)
    shown = said(console)
    assert f"Run directory: {directory}\n" in shown  # whole, though longer than a line
    assert f"  mdmkit eval 'runs/with space/{'x' * 90}'\n" in shown
    assert f"  mdmkit sample 'runs/with space/{'x' * 90}'\n" in shown


def test_a_bar_of_a_long_run_has_room_in_a_narrow_terminal():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    reporter = RunReporter(console)
    reporter.start(total=1_000_000, done=0)
    reporter.validation(999_000, NUMBER)
    reporter.step(999_999, loss=12.3456, tokens_per_second=123_456.0)
    reporter.close()
    last = visible(console).rstrip().splitlines()[-1]
    for part in ("step 999999/1000000", "loss 12.3456", "123.5k tokens/s", "val 3.7912", "ETA"):
        assert part in last
    assert "…" not in visible(console)


def test_quiet_is_quiet(capsys):
    reporter = quiet()
    reporter.notify("x")
    reporter.start(total=1, done=0)
    reporter.step(1, loss=1.0, tokens_per_second=1.0)
    reporter.validation(1, NUMBER)
    reporter.summary(Path(), RESULTS, SAMPLES)
    reporter.close()
    assert capsys.readouterr() == ("", "")


def test_counting_shows_a_bar_on_a_terminal_only():
    for console, expected in ((terminal(), "2/3"), (plain(), "")):
        with counting(console) as report:
            for done in range(3):
                report("nelbo", done, 3)
        assert expected in visible(console)
    assert said(console) == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Measurement(value=3.7912, stderr=0.0083), "3.7912 ± 0.0083"),
        (Measurement(value=1234.5, stderr=56.7), "1234 ± 57"),
        (Measurement(value=0.5, stderr=1.2), "0.5 ± 1.2"),
        (Measurement(value=2.0, stderr=0.0), "2.0000 ± 0"),
        (Measurement(value=6.931, stderr=1.6e-9), "6.9310 ± 2e-09"),
    ],
)
def test_a_number_has_as_many_digits_as_its_error_allows(number, text):
    assert with_error(number) == text


def test_speeds_and_durations_are_short():
    assert [rate(x) for x in (0.0, 999.0, 24_310.0, 3.2e6)] == ["0", "999", "24.3k", "3.2M"]
    assert [duration(x) for x in (0.2, 83, 7384)] == ["0s", "1m23s", "2h03m"]
