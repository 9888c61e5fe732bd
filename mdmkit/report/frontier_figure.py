"""The picture of a generation frontier: quality against entropy, and against network calls.

A colour is a run, a marker a sampler. Lines follow the temperature on the left, the paler the fewer
the steps, and the steps on the right. Real text is a star.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdmkit.comparison.frontier import Frontier
from mdmkit.comparison.generated_text import ENTROPY, NLL, GeneratedText
from mdmkit.report.figure_style import colour, file_of, styled
from mdmkit.values import Measurement

MARKERS = "osD^vPXd"
QUALITY = "judge NLL (nats per judge token)"


def picture(found: Frontier, kind: str) -> bytes:
    """The picture as a file: the same frontier gives the same one.

    Args:
        found: what is drawn.
        kind: ``svg`` or ``png``.
    """
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(10, 4.6))
        figure.set_layout_engine("constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_entropy(left, found)
        _draw_calls(right, found)
        _legend(figure, found)
        return file_of(figure, kind)


def as_trained(texts: Sequence[GeneratedText]) -> list[GeneratedText]:
    """Those at the temperature that is nearest to 1."""
    if not texts:
        return []
    nearest = min((text.temperature for text in texts), key=lambda value: abs(value - 1))
    return [text for text in texts if text.temperature == nearest]


def _draw_entropy(axes: Any, found: Frontier) -> None:
    for run, curve in dict.fromkeys((text.run, text.curve) for text in found.texts):
        own = [text for text in found.texts if (text.run, text.curve) == (run, curve)]
        own.sort(key=lambda text: text.temperature)
        _line(axes, found, own, [text.entropy for text in own])
    for nll, entropy in _real(found):
        axes.errorbar(
            entropy.value, nll.value, xerr=entropy.stderr, yerr=nll.stderr, fmt="*", ms=13,
            color="0.25", mec="white", elinewidth=0.9, zorder=5,
        )  # fmt: skip
    axes.set_xlabel("unigram entropy of a text (nats)")
    axes.set_ylabel(QUALITY)
    axes.grid(alpha=0.25, lw=0.6)


def _draw_calls(axes: Any, found: Frontier) -> None:
    for run, grid in dict.fromkeys((text.run, text.grid) for text in found.texts):
        own = as_trained([t for t in found.texts if (t.run, t.grid) == (run, grid)])
        own.sort(key=lambda text: text.calls.value)
        _line(axes, found, own, [text.calls for text in own])
    for nll, _ in _real(found):
        axes.axhline(nll.value, color="0.25", lw=0.9, ls=":", zorder=0)
        axes.plot(0.985, nll.value, "*", ms=13, color="0.25", mec="white", clip_on=False, zorder=5,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("network calls a batch, at the temperature nearest to 1")
    axes.grid(alpha=0.25, lw=0.6)


def _real(found: Frontier) -> list[tuple[Measurement, Measurement]]:
    """NLL and entropy of real text, once where runs share it."""
    every = [(real[NLL], real[ENTROPY]) for real in found.real.values() if real]
    return list({(nll.value, entropy.value): (nll, entropy) for nll, entropy in every}.values())


def _line(
    axes: Any, found: Frontier, texts: Sequence[GeneratedText], x: Sequence[Measurement]
) -> None:
    """One sampler of one run; the fewer its steps, the paler."""
    first = texts[0]
    axes.errorbar(
        [number.value for number in x],
        [text.nll.value for text in texts],
        xerr=[number.stderr for number in x],
        yerr=[text.nll.stderr for text in texts],
        color=colour(found.runs.index(first.run)),
        marker=MARKERS[_samplers(found).index(first.name) % len(MARKERS)],
        ms=4,
        lw=1.1,
        elinewidth=0.7,
        alpha=_strength(found, texts),
    )


def _strength(found: Frontier, texts: Sequence[GeneratedText]) -> float:
    first = texts[0]
    own = [text for text in found.texts if (text.run, text.grid) == (first.run, first.grid)]
    curves = list(dict.fromkeys(text.curve for text in own))
    if len({text.curve for text in texts}) > 1 or len(curves) == 1:
        return 1.0
    return 0.35 + 0.65 * curves.index(first.curve) / (len(curves) - 1)


def _samplers(found: Frontier) -> list[str]:
    return list(dict.fromkeys(text.name for text in found.texts))


def _legend(figure: Any, found: Frontier) -> None:
    from matplotlib.lines import Line2D

    runs = [
        Line2D([], [], color=colour(number), lw=3, label=run)
        for number, run in enumerate(found.runs)
    ]
    samplers = [
        Line2D([], [], color="0.35", lw=0, marker=MARKERS[number % len(MARKERS)], label=name)
        for number, name in enumerate(_samplers(found))
    ]
    real = [Line2D([], [], color="0.25", lw=0, marker="*", ms=11, mec="white", label="real text")]
    figure.legend(handles=[*runs, *samplers, *real], loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
