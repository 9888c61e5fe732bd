"""The two curves, and how those of two recipes compare, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdmkit.report.agreement import Agreement, Comparison
    from mdmkit.report.curves import Curves

_BARS = " ▁▂▃▄▅▆▇█"
_TABLE_ROWS = 10


def curve_lines(curves: Curves) -> list[str]:
    """The curves as a small table and a line of bars each."""
    cells = len(curves.mask_ratio)
    stride = max(cells // _TABLE_ROWS, 1)
    rows = {
        "mask ratio": curves.mask_ratio,
        "density": curves.density,
        "weight": curves.weight,
    }
    lines = [f"at step {curves.step}:"]
    for name, values in rows.items():
        shown = "".join(f"{value:8.3f}" for value in values[stride // 2 :: stride])
        lines.append(f"{name:<10}{shown}")
    for name in ("density", "weight"):
        values = rows[name]
        lines.append(f"{name:<10}  |{sparkline(values)}| 0 to {max(values):.3g}")
    return lines


def training_lines(curves: Sequence[Curves]) -> list[str]:
    """The curves at several steps, and the notes once."""
    lines = []
    for at_step in curves:
        lines += ["", *curve_lines(at_step)]
    notes = dict.fromkeys(note for at_step in curves for note in at_step.notes)
    return [*lines, *(f"note: {note}" for note in notes)]


def comparison_lines(comparison: Comparison) -> list[str]:
    """Whether the curves of two recipes agree, with the largest difference of each."""
    lines = []
    for agreement in comparison.steps:
        step, other = agreement.steps
        lines += [
            f"at step {step}:" if other == step else f"at step {step}, of the other {other}:",
            _difference("density", agreement, comparison.tolerance),
            _difference("weight", agreement, comparison.tolerance),
        ]
    return [*lines, comparison.verdict, *(f"note: {note}" for note in comparison.notes)]


def _difference(name: str, agreement: Agreement, tolerance: float) -> str:
    difference = getattr(agreement, name)
    word = "agree" if difference.size <= tolerance else "differ"
    return (
        f"{name:<10}  {word}: the largest difference is {difference.size:.2g} of the height, at "
        f"mask ratio {difference.mask_ratio:.3g} ({difference.values[0]:.4g} and "
        f"{difference.values[1]:.4g}); tolerance {tolerance:g}"
    )


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, the tallest for the largest; nothing for 0.

    >>> sparkline([0.0, 0.5, 1.0])
    ' ▄█'
    """
    top = max(values)
    if top <= 0:
        return _BARS[0] * len(values)
    levels = [round(value / top * (len(_BARS) - 1)) for value in values]
    return "".join(
        _BARS[max(level, 1) if value > 0 else 0]
        for level, value in zip(levels, values, strict=True)
    )
