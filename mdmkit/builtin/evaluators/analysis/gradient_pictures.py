"""What `gradient` draws: of one network, and of its way through training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.gradient_findings import Estimate, Finding
from mdmkit.builtin.evaluators.analysis.lines import line_by_step
from mdmkit.values import HeatMap, Line, Picture

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result

WHOLE = "all"
_BY_T = "uniform_flat"
_RATIO = "|G|²/tr(S) of one sequence"


def pictures_of(found: Sequence[Finding], groups: Sequence[str]) -> dict[str, Picture | HeatMap]:
    """Of one network.

    Args:
        found: the reference first.
        groups: the names of the groups of parameters.
    """
    reference, methods = found[0], found[1:]
    rows = (*groups, WHOLE)
    flat = next(finding for finding in methods if finding.method.name == _BY_T)
    drawn: dict[str, Picture | HeatMap] = {
        "noise_by_t": _by_t(
            methods,
            lambda finding: finding.whole.noise_share,
            title="Which t the noise comes from",
            y_label="share of the variance of the gradient",
            note="What differs from one batch to the next, summed over parameters.",
        ),
        "loss_by_t": _by_t(
            methods,
            lambda finding: finding.loss_share,
            title="Which t the loss comes from",
            y_label="share of the loss",
            note="A large share of the loss need not be one of the gradient: what cannot be "
            "learned costs, but teaches nothing.",
        ),
        "signal_to_noise": HeatMap(
            title="Signal to noise of each training",
            x_label="training",
            y_label="part of the network",
            value_label=_RATIO,
            columns=tuple(finding.method.title for finding in methods),
            rows=rows,
            **_table([[f.estimate(part.ratio) for part in f.parts] for f in methods]),
            note="All at the same weights. One over it is the number of sequences at which signal "
            "and noise are as large, the gradient noise scale.",
        ),
        "signal_to_noise_by_t": HeatMap(
            title="Signal to noise by t",
            x_label="t",
            y_label="part of the network",
            value_label=_RATIO,
            columns=_ranges(flat.losses.shape[1]),
            rows=rows,
            **_table(
                _columns(
                    [flat.estimate(part.ratio_by_bin) for part in flat.parts],
                    flat.whole.rows.sum(0) > 0,
                )
            ),
            note="Of sequences with t in this range alone, every masked token counting the same; "
            "a weight that depends on t changes it little within a range. Empty where no sequence "
            "was.",
        ),
    }
    clear = [finding for finding in methods if finding.clear]
    if clear:
        drawn["gradient_by_t"] = _by_t(
            clear,
            lambda finding: finding.whole.signal_share,
            title="Which t the gradient comes from",
            y_label="share of the squared norm of the true gradient",
            note="Of each range of t the inner product of its gradient with the whole, over |G|². "
            "Shares add up to 1; a range below 0 pulls against the others. A training is left out "
            "where |G|² is below two standard errors: there is nothing to have shares of.",
        )
    cosines = [finding.cosines(reference) for finding in methods]
    if any(one is not None for column in cosines for one in column):
        drawn["cosine_to_nelbo"] = HeatMap(
            title="Do they pull where the NELBO does?",
            x_label="training",
            y_label="part of the network",
            value_label="cosine to the gradient of the NELBO",
            columns=tuple(finding.method.title for finding in methods),
            rows=rows,
            **_table(cosines),
            note="The NELBO's gradient is measured by batches of its own, so that uniform, 1/t is "
            "1 but for noise. Empty where a norm is below two standard errors: the noise is too "
            "large to say.",
        )
    return drawn


def over_training(results: Mapping[int, Result]) -> dict[str, Picture | HeatMap]:
    """Of several checkpoints: signal to noise of each training, and its cosine, by step."""
    drawn: dict[str, Picture | HeatMap] = {}
    ratios = _by_step(results, "signal_to_noise_")
    if ratios:
        drawn["signal_to_noise"] = Picture(
            title="Signal to noise over training",
            x_label="steps",
            y_label=_RATIO,
            lines=ratios,
            log_y=True,
            note="Each training at the weights of this run at that step. Estimates at or below 0 "
            "are noise, and cannot be shown on a logarithmic axis.",
        )
    cosines = _by_step(results, "cosine_")
    if cosines:
        drawn["cosine_to_nelbo"] = Picture(
            title="Cosine to the gradient of the NELBO over training",
            x_label="steps",
            y_label="cosine",
            lines=cosines,
            note="At steps without a point the noise was too large to say.",
        )
    return drawn


def _by_step(results: Mapping[int, Result], prefix: str) -> tuple[Line, ...]:
    """A line a training, of the measurements whose names begin so."""
    names = {name for result in results.values() for name in result.measurements}
    lines = [
        line_by_step(results, name, name.removeprefix(prefix).replace("_", ", "))
        for name in sorted(names)
        if name.startswith(prefix)
    ]
    return tuple(line for line in lines if line is not None)


def _by_t(
    methods: Sequence[Finding],
    statistic: Callable[[Finding], Callable[[Tensor], Tensor]],
    *,
    title: str,
    y_label: str,
    note: str,
) -> Picture:
    """A line a method, over the middles of the bins."""
    lines = []
    for finding in methods:
        bins = finding.losses.shape[1]
        value, stderr = finding.estimate(statistic(finding))
        lines.append(
            Line(
                name=finding.method.title,
                x=tuple((place + 0.5) / bins for place in range(bins)),
                y=tuple(value.tolist()),
                stderr=tuple(stderr.tolist()),
            )
        )
    return Picture(title=title, x_label="t", y_label=y_label, lines=tuple(lines), note=note)


def _ranges(bins: int) -> tuple[str, ...]:
    return tuple(f"{place / bins:.2g} to {(place + 1) / bins:.2g}" for place in range(bins))


def _columns(rows: Sequence[Estimate], measured: Tensor) -> list[list[Estimate | None]]:
    """Estimates of rows ``[columns]`` each, as a list of columns; None where not `measured`."""
    values, errors = (torch.stack(part) for part in zip(*rows, strict=True))
    return [
        list(zip(v, e, strict=True)) if there else [None] * len(rows)
        for v, e, there in zip(values.T, errors.T, measured.tolist(), strict=True)
    ]


def _table(
    columns: Sequence[Sequence[Estimate | None]],
) -> dict[str, tuple[tuple[float | None, ...], ...]]:
    """The values and errors of a heat map, from its columns."""
    rows = list(zip(*columns, strict=True))
    return {
        name: tuple(tuple(None if one is None else float(one[part]) for one in row) for row in rows)
        for part, name in enumerate(("values", "stderr"))
    }
