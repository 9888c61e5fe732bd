"""The picture of a comparison, by matplotlib: curves on the left, speed-ups on the right.

Beyond seven methods the dashes change as well as the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mdmkit.comparison.results import Comparison, MethodResult
from mdmkit.comparison.speed import Ratio
from mdmkit.report.figure_style import COLOURS, colour, file_of, styled

DASHES = ("-", "--", ":", "-.")
UNIT = "validation NELBO (nats per token)"
_MARKERS = "osD^vPX"


def picture(found: Comparison, kind: str) -> bytes:
    """The picture as a file: the same comparison gives the same one.

    Args:
        found: what is drawn.
        kind: ``svg`` or ``png``.
    """
    from matplotlib.figure import Figure

    with styled():
        both = bool(found.speed_ups)
        rows = len(found.speed_ups)
        figure = Figure(figsize=(10 if both else 6.5, max(4.2, 1.2 + 0.22 * rows)))
        figure.set_layout_engine("constrained")
        if both:
            left, right = figure.subplots(1, 2, width_ratios=[3, 2])
            _draw_speed_ups(right, found)
        else:
            left = figure.subplots()
        _draw_curves(left, found)
        return file_of(figure, kind)


def view(found: Comparison) -> tuple[float, float]:
    """The range of NELBO worth looking at: without the fall from the untrained network."""
    ends = [
        value for method in found.methods for value in (method.curve.low[-1], method.best.nelbo)
    ]
    tops = [max(method.curve.nelbo[1:] or method.curve.nelbo) for method in found.methods]
    top = max(tops) if found.plateau is None else found.plateau.nelbo
    low = min(ends)
    pad = 0.06 * max(top - low, 0.01)
    return low - pad, max(top, *(method.final.nelbo for method in found.methods)) + 2 * pad


def _draw_curves(axes: Any, found: Comparison) -> None:
    cooled = found.settings["cooled"]
    for number, method in enumerate(found.methods):
        style = {
            "color": colour(number),
            "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        }
        curve, steps = method.curve, method.curve.costs["steps"]
        if not cooled and len(method.runs) > 1:
            for run in method.runs:
                axes.plot(run.steps, run.nelbo, lw=0.6, alpha=0.45, **style)
        axes.fill_between(steps, curve.low, curve.high, color=colour(number), alpha=0.15, lw=0)
        marker = "o" if cooled or len(steps) < 3 else None
        axes.plot(steps, curve.nelbo, lw=1.9, marker=marker, ms=4, label=_named(method), **style)
    if found.plateau is not None:
        _line(axes, found.plateau.nelbo, "plateau", "--")
    base = next(method for method in found.methods if method.label == found.baseline)
    _line(axes, base.curve.smooth[-1], f"end of {found.baseline}", ":")
    axes.set_ylim(*view(found))
    if cooled:
        axes.set_xscale("log")
        _plain_ticks(axes, *axes.get_xlim())
    axes.set_xlabel("budget (optimizer steps)" if cooled else "optimizer steps")
    axes.set_ylabel(UNIT)
    axes.grid(alpha=0.25, lw=0.6)
    axes.legend(loc="best", framealpha=0.9, edgecolor="none")


def _line(axes: Any, level: float, label: str, style: str) -> None:
    axes.axhline(level, color="0.45", ls=style, lw=1, zorder=0, label=label)


def _named(method: MethodResult) -> str:
    seeds = len(method.seeds)
    return f"{method.label} ({seeds} {'seed' if seeds == 1 else 'seeds'})"


def _draw_speed_ups(axes: Any, found: Comparison) -> None:
    """A dot and its interval for each method and level; an arrow where an end is open."""
    numbers = {method.label: number for number, method in enumerate(found.methods)}
    levels = list(dict.fromkeys(row.level for row in found.speed_ups))
    others = [method.label for method in found.methods if method.label != found.baseline]
    ratios = [row.ratios["steps"] for row in found.speed_ups]
    left, right = _reach(ratios)
    for row in found.speed_ups:
        ratio = row.ratios["steps"]
        if ratio.value is None:
            continue
        offset = (others.index(row.method) - (len(others) - 1) / 2) * 0.7 / max(len(others), 1)
        y, own = levels.index(row.level) + offset, colour(numbers[row.method])
        ends = (
            left if ratio.low is None else ratio.low,
            right if ratio.high is None else ratio.high,
        )
        axes.plot(ends, (y, y), color=own, lw=1.6, solid_capstyle="butt")
        for end, sign, known in zip(ends, "<>", (ratio.low, ratio.high), strict=True):
            if known is None:
                axes.plot(end, y, sign, color=own, ms=5)
        face = own if ratio.kind == "exact" else "white"
        marker = _MARKERS[others.index(row.method) % len(_MARKERS)]
        axes.plot(ratio.value, y, marker, color=own, ms=6, mfc=face)
    axes.axvline(1, color="0.45", lw=0.9, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(left / 1.08, right * 1.08)
    _plain_ticks(axes, left, right)
    axes.set_yticks(range(len(levels)), levels)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_title(f"over {found.baseline}, to the same NELBO", fontsize=9, loc="left")
    axes.set_xlabel("speed-up in steps (95% interval; hollow: a bound)")
    axes.grid(axis="x", alpha=0.25, lw=0.6)


def _reach(ratios: Sequence[Ratio]) -> tuple[float, float]:
    """What the axis must reach, 1 included, with room for the arrows of open ends."""
    known = [v for r in ratios for v in (r.low, r.value, r.high) if v is not None and v > 0]
    left, right = min([1.0, *known]), max([1.0, *known])
    return left / (1.5 if any(r.low is None for r in ratios) else 1.1), right * (
        1.5 if any(r.high is None for r in ratios) else 1.1
    )


def _plain_ticks(axes: Any, left: float, right: float) -> None:
    """Ticks at round numbers, written as such; a log axis of its own writes powers of ten."""
    steps = (1, 2, 5) if right / left > 20 else (1, 1.5, 2, 3, 5, 7)
    powers = range(math.floor(math.log10(left)) - 1, math.ceil(math.log10(right)) + 1)
    ticks = sorted({m * 10.0**p for p in powers for m in steps if left <= m * 10.0**p <= right})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
