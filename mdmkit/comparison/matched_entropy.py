"""Runs and samplers at equal entropy: a low NLL alone can be had by saying little.

Along the temperature a sampler trades entropy for likelihood. Its NLL at a given entropy is
interpolated on that curve, and never extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from attrs import frozen

from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.comparison.generated_text import GeneratedText

UNIT = "nats/token"
MOST = 4  # entropies beside that of real text
SPACINGS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@frozen(kw_only=True)
class AtEntropy:
    """What a run and a sampler come to at an entropy.

    Attributes:
        run: the run.
        curve: the sampler with its options, but for the temperature.
        nll: the judge's, interpolated; None where the curve does not reach the entropy.
        over: by how much it is above that of the first run on the same curve; None for the first
            run, and where one of the two is not reached.
    """

    run: str
    curve: str
    nll: Measurement | None
    over: Measurement | None = None


@frozen(kw_only=True)
class Matched:
    """All runs and samplers at one entropy.

    Attributes:
        entropy: nats.
        of: whose it is: the runs whose real text has it; empty for a round number.
        curves: each run and sampler.
        best: for each run the lowest of its curves, with `over` saying how far it is above that of
            the first run, whatever their samplers; runs that reach none are left out.
    """

    entropy: float
    of: Sequence[str]
    curves: Sequence[AtEntropy]
    best: Sequence[AtEntropy]


def match(texts: Sequence[GeneratedText], real: Mapping[str, Measurement]) -> list[Matched]:
    """Compare at the entropies of real text, and at round ones that all runs reach.

    Args:
        texts: of all runs.
        real: the entropy of real text, by run.
    """
    curves = {
        (run, curve): sorted(
            (text for text in texts if (text.run, text.curve) == (run, curve)),
            key=lambda text: text.temperature,
        )
        for run, curve in dict.fromkeys((text.run, text.curve) for text in texts)
    }
    owners: dict[float, list[str]] = {}
    for run, number in real.items():
        owners.setdefault(number.value, []).append(run)
    for entropy in round_entropies(list(curves.values())):
        owners.setdefault(entropy, [])
    return [_matched(entropy, owners[entropy], curves) for entropy in sorted(owners)]


def interpolated(curve: Sequence[GeneratedText], entropy: float) -> Measurement | None:
    """The NLL at an entropy, linear between neighbouring temperatures; None outside.

    Where a curve has the entropy twice, the higher temperature counts. Errors of both axes are
    propagated by the slope. Neighbours share their random numbers, so theirs are added as if they
    went together, which is never too little.

    Args:
        curve: texts by rising temperature.
        entropy: nats.
    """
    for low, high in reversed(list(pairwise(curve))):
        ends = sorted((low, high), key=lambda text: text.entropy.value)
        left, right = (text.entropy.value for text in ends)
        if not left <= entropy <= right or left == right:
            continue
        share = (entropy - left) / (right - left)
        slope = (ends[1].nll.value - ends[0].nll.value) / (right - left)
        errors = [math.hypot(text.nll.stderr, slope * text.entropy.stderr) for text in ends]
        return Measurement(
            value=(1 - share) * ends[0].nll.value + share * ends[1].nll.value,
            stderr=(1 - share) * errors[0] + share * errors[1],
            unit=UNIT,
        )
    return None


def round_entropies(curves: Sequence[Sequence[GeneratedText]]) -> list[float]:
    """A few round numbers within what every run reaches."""
    ranges: dict[str, list[float]] = {}
    for curve in curves:
        if len(curve) > 1:
            ranges.setdefault(curve[0].run, []).extend(text.entropy.value for text in curve)
    if not ranges:
        return []
    low = max(min(values) for values in ranges.values())
    high = min(max(values) for values in ranges.values())
    for spacing in SPACINGS:
        first, last = math.ceil(low / spacing), math.floor(high / spacing)
        if last - first < MOST:
            return [round(number * spacing, 2) for number in range(first, last + 1)]
    return []


def _matched(
    entropy: float,
    owners: Sequence[str],
    curves: Mapping[tuple[str, str], Sequence[GeneratedText]],
) -> Matched:
    found = {key: interpolated(curve, entropy) for key, curve in curves.items()}
    best: dict[str, tuple[str, Measurement]] = {}
    for (run, curve), nll in found.items():
        if nll is not None and (run not in best or nll.value < best[run][1].value):
            best[run] = curve, nll
    first = _bases(curves)
    lowest = {run: nll for run, (_, nll) in best.items()}
    return Matched(
        entropy=entropy,
        of=list(owners),
        curves=[
            AtEntropy(
                run=run,
                curve=curve,
                nll=nll,
                over=_over(nll, found.get((first[run], curve)), run, first),
            )
            for (run, curve), nll in found.items()
        ],
        best=[
            AtEntropy(
                run=run, curve=curve, nll=nll, over=_over(nll, lowest.get(first[run]), run, first)
            )
            for run, (curve, nll) in best.items()
        ],
    )


def _bases(curves: Mapping[tuple[str, str], Sequence[GeneratedText]]) -> dict[str, str]:
    """For each run the first one that it can be compared with: itself, if there is no other."""
    grounds = {run: curve[0].ground for (run, _), curve in curves.items()}
    return {
        run: next(other for other, found in grounds.items() if found == ground)
        for run, ground in grounds.items()
    }


def _over(
    nll: Measurement | None, base: Measurement | None, run: str, first: Mapping[str, str]
) -> Measurement | None:
    """Their difference, as of independent numbers; None for the first run itself."""
    if nll is None or base is None or first[run] == run:
        return None
    return Measurement(
        value=nll.value - base.value, stderr=math.hypot(nll.stderr, base.stderr), unit=UNIT
    )
