"""A run while it goes on, fitted to a terminal; and as plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from mdmkit.report.numbers import decimal, duration, rate, with_error
from mdmkit.report.run_list import best_words
from mdmkit.report.tables import GENERATED, one_line, printable
from mdmkit.report.text_plot import SMALLEST, Point, plot_lines
from mdmkit.runs.follow import View
from mdmkit.runs.history import Window
from mdmkit.runs.status import NELBO, NELBO_STDERR
from mdmkit.samples_log import LoggedSamples
from mdmkit.values import Measurement

STATE_STYLES = {"running": "bold green", "finished": "bold", "failed": "bold red"}
ODD = "yellow"
_SIDE_BY_SIDE = 100
"""Characters from which the two plots stand beside each other."""
_BETWEEN = "  "


def view_lines(view: View, *, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """All that is to be seen of a run, in at most `height` lines of `width` characters."""
    head = [*_head(view), *(Text(f"! {printable(odd)}", ODD) for odd in view.findings)]
    head = [part for line in head for part in _folded(line, width)][:height]
    texts = _samples(view.samples, width, max((height - len(head)) // 3, 0))
    plots = _plots(view, width, height - len(head) - len(texts), ascii_only)
    return [*head, *plots, *texts]


def _head(view: View) -> Iterator[Text]:
    """Where the run stands, and the figures of the last line."""
    status, history = view.status, view.history
    line = Text.assemble(
        (one_line(status.directory.name), "bold"),
        "  ",
        (status.words, STATE_STYLES.get(status.state, f"bold {ODD}")),
    )
    if view.seconds_left is not None:
        line.append(f"  ETA {duration(view.seconds_left)}")
    yield line
    if history.windows:
        yield Text("  ".join(_figures(history.windows[-1])))
    elif status.state == "running":
        yield Text("no figures yet: the text is being prepared, or the first steps are under way")
    if history.best is not None:
        yield Text(f"best validation NELBO {best_words(history.best)} nats/token")


def _figures(window: Window) -> Iterator[str]:
    if window.tokens_per_second is not None:
        yield f"{rate(window.tokens_per_second)} tokens/s"
    if window.loss is not None:
        yield f"loss {decimal(window.loss)}"
    if window.learning_rate is not None:
        yield f"learning rate {window.learning_rate:.3g}"
    if window.grad_norm is not None:
        yield f"gradient norm {window.grad_norm:.3g}"
    if window.clipped is not None:
        yield f"clipped {window.clipped:.0%}"


def _plots(view: View, width: int, height: int, ascii_only: bool) -> list[Text]:
    """The two curves, beside each other where there is room, else one below the other."""
    validation = [
        Point(step=each.step, value=each.value, stderr=each.stderr)
        for each in view.history.validations
    ]
    training = [
        Point(step=each.step, value=each.loss)
        for each in view.history.windows
        if each.loss is not None
    ]
    curves = [
        (title, points)
        for title, points in (
            ("validation NELBO, nats/token", validation),
            ("training loss", training),
        )
        if points
    ]
    beside = width >= _SIDE_BY_SIDE and len(curves) > 1
    across, down = (2, 1) if beside else (1, max(len(curves), 1))
    if height // down < SMALLEST[1] + 1:  # the first of them, if that has room
        curves, down = curves[:1], 1
    each, tall = (width - len(_BETWEEN) * (across - 1)) // across, height // down - 1
    blocks = [
        _titled(title, plot_lines(points, width=each, height=tall, ascii_only=ascii_only))
        for title, points in curves
    ]
    if beside and len(blocks) > 1:
        rows = zip(*blocks, strict=True)
        return [Text(_BETWEEN.join((left.ljust(each), right)).rstrip()) for left, right in rows]
    return [Text(line) for block in blocks for line in block]


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *lines] if lines else []


def _samples(logged: LoggedSamples | None, width: int, height: int) -> list[Text]:
    """The newest texts, as many lines as there is room for."""
    if logged is None or height < 2:
        return []
    lines = [Text(f"generated at step {logged.step}", "bold")]
    each = max((height - 1) // max(len(logged.samples), 1), 1)
    for sample in logged.samples[: height - 1]:
        flat = printable(" ".join(sample.text.split()))
        lines += _folded(Text(flat, GENERATED), width)[:each]
    return lines[:height]


def _folded(line: Text, width: int) -> list[Text]:
    """The line in pieces of at most `width` characters."""
    from rich.console import Console

    return list(line.wrap(Console(width=width), width, overflow="fold")) or [Text()]


# --- without a terminal -------------------------------------------------------------------------


def news_lines(view: View) -> Iterator[str]:
    """The new figures of a look, a line each."""
    of = "" if view.status.steps is None else f"/{view.status.steps}"
    for entry in view.new:
        words = [f"step {entry['step']}{of}", *_news(entry)]
        if len(words) > 1:
            yield "  ".join(words)


def _news(entry: Mapping[str, float | int | None]) -> Iterator[str]:
    loss, norm, speed = (
        entry.get(f"train/{name}") for name in ("loss", "grad_norm", "tokens_per_second")
    )
    if loss is not None:
        yield f"loss {decimal(loss)}"
    if norm is not None:
        yield f"gradient norm {norm:.3g}"
    if speed is not None:
        yield f"{rate(speed)} tokens/s"
    value, stderr = entry.get(NELBO), entry.get(NELBO_STDERR)
    if value is not None:
        nelbo = Measurement(value=value, stderr=stderr or 0.0)
        yield f"validation NELBO {with_error(nelbo)} nats/token"


def sample_lines(logged: LoggedSamples) -> Iterator[str]:
    """The texts of a step, a line each."""
    for number, sample in enumerate(logged.samples):
        yield f"step {logged.step}  sample {number}: {printable(' '.join(sample.text.split()))}"
