"""The outcome of a run in words: numbers, generated text, and what to type next.

Everything is plain lines without frames, so that it reads the same on a narrow terminal, in a
file and in a message; nothing is ever cut off.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from mdmkit.report.numbers import with_error

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.generate import Sample

HEADER = ("number", "value ± standard error", "unit")
GENERATED = "cyan"
"""The style of generated text beside text that was given."""
_INDENT = "  "


def print_results(console: Console, results: Mapping[str, Result]) -> None:
    """For each evaluator a title and its numbers ± standard error, one a line."""
    for number, (label, result) in enumerate(results.items()):
        if number:
            console.print()
        _print(console, Text(" · ".join([label, *_circumstances(result.provenance)]), "bold"))
        rows = [(name, with_error(m), m.unit) for name, m in result.measurements.items()]
        for line in columns([HEADER, *rows]):
            _print(console, Text(_INDENT + line))


def print_samples(console: Console, samples: Sequence[Sample]) -> None:
    """Generated text under a line that says how it was made, set apart by a margin."""
    for number, sample in enumerate(samples):
        if number:
            console.print()
        _print(console, Text(" · ".join(_made(sample)), "bold"))
        for line in _highlighted(sample).split("\n", allow_blank=True):
            for part in _wrapped(console, line):
                _print(console, Text(_INDENT) + part)


def _made(sample: Sample) -> Iterator[str]:
    """How a text was made."""
    yield f"sample {sample.row}"
    if sample.template_id is not None:
        yield printable(f"template {sample.template_id}")
    yield f"seed {sample.seed}"
    yield sample.sampler
    yield f"{sample.network_evaluations} network evaluations"
    if sample.nelbo is not None:
        lengths = " + ".join(str(gap.stop - gap.start) for gap in sample.gaps)
        yield f"gap of {lengths}, the best of {len(sample.candidates)}"


def _highlighted(sample: Sample) -> Text:
    """The text with what was generated set apart from what was given, if anything was."""
    text, end = Text(), 0
    for gap in sample.gaps if sample.prompt or sample.template else ():
        text.append(printable(sample.text[end : gap.text_start]))
        text.append(printable(sample.text[gap.text_start : gap.text_stop]), GENERATED)
        end = gap.text_stop
    return text.append(printable(sample.text[end:]))


def print_summary(
    console: Console,
    *,
    directory: Path,
    results: Mapping[str, Result],
    samples: Sequence[Sample],
) -> None:
    """The end of a run: numbers, some text, where it all is, and what to type next."""
    if results:
        console.print()
        print_results(console, results)
    if samples:
        console.print()
        print_samples(console, samples)
    console.print()
    _print(console, Text(f"Run directory: {directory}"))
    _print(console, Text("Next:"))
    for command in next_commands(directory):
        _print(console, Text(_INDENT + command))


def next_commands(directory: Path) -> list[str]:
    """What to type after a run."""
    place = shlex.quote(str(directory))
    return [f"mdmkit eval {place}", f"mdmkit sample {place}"]


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines with aligned columns.

    >>> list(columns([("name", "value"), ("a", "1")]))
    ['name  value', 'a     1']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def printable(text: str) -> str:
    r"""`text` with its control characters written out, all but newline and tab.

    A network that generates bytes generates escape sequences, too, and a terminal would obey them.

    >>> print(printable("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(map(_shown, text))


def one_line(text: str) -> str:
    r"""`text` on one line, and with what turns the order of characters around written out, too.

    >>> print(one_line("a\nb\u202ec"))
    a\nb\u202ec
    """
    odd = ("Cc", "Cf", "Zl", "Zp")
    return "".join(_written_out(c) if unicodedata.category(c) in odd else c for c in text)


def _shown(character: str) -> str:
    control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    return _written_out(character) if control else character


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _print(console: Console, line: Text) -> None:
    """Print a line whole; a terminal breaks what is too long, and it can still be copied whole."""
    console.print(line, soft_wrap=True, highlight=False)


def _wrapped(console: Console, line: Text) -> Iterable[Text]:
    """On a terminal, the line broken to its width; elsewhere the line as it is."""
    if not console.is_terminal:
        return [line]
    width = max(console.width - len(_INDENT), 1)
    return line.wrap(console, width, overflow="fold") or [Text()]


def _circumstances(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Split, blocks, draws and weights in words, as far as the evaluator tells them."""
    if "split" in provenance:
        yield f"split {provenance['split']}"
    counted = [
        f"{provenance[name]} {name if provenance[name] != 1 else name.removesuffix('s')}"
        for name in ("blocks", "draws")
        if name in provenance
    ]
    if counted:
        yield " × ".join(counted)
    checkpoint = provenance.get("checkpoint")
    if isinstance(checkpoint, Mapping):
        yield f"step {checkpoint['step']}, {'EMA' if checkpoint['ema'] else 'no EMA'}"
