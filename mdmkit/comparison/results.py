"""What a comparison found, as objects and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import frozen

from mdmkit.comparison.difference import Difference
from mdmkit.comparison.speed import Ratio, Reached, SpeedUp


@frozen(kw_only=True)
class Point:
    """A NELBO per token with its errors.

    Attributes:
        step: optimizer steps, or the budget.
        nelbo: nats per token, mean over the seeds.
        seed_stderr: standard error over seeds; None for a single one.
        document_stderr: over clusters of validation blocks, by the bootstrap.
        stderr: over both, by the two-level bootstrap.
    """

    step: int
    nelbo: float
    seed_stderr: float | None
    document_stderr: float
    stderr: float


@frozen(kw_only=True)
class Curve:
    """A method's curve, ready to be drawn: lists of equal length.

    Attributes:
        nelbo: nats per token, mean over the seeds, as measured.
        smooth: its isotonic fit.
        low, high: 95% of the resamples of `nelbo`.
        costs: by axis: steps, tokens, flops, seconds.
        peaks: the learning rate behind each point.
    """

    nelbo: Sequence[float]
    smooth: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    costs: Mapping[str, Sequence[float]]
    peaks: Sequence[float]


@frozen(kw_only=True)
class RunFacts:
    """A run, as far as a comparison used it.

    Attributes:
        directory, name, seed, recipe_hash: which run it is.
        peak, budget: of its learning rate; the steps of its recipe.
        steps: of its validations.
        nelbo: at each of them.
        costs: by axis, at each of them.
        finished: whether the last of them is the recipe's last step.
        ema: whether averaged weights were validated.
        loss_share: which share of positions its FLOPs were counted with.
        branch: where it branched off, if it did.
        escape: when it left the plateau, in steps.
    """

    directory: str
    name: str
    seed: int
    recipe_hash: str
    peak: float
    budget: int
    steps: Sequence[int]
    nelbo: Sequence[float]
    costs: Mapping[str, Sequence[float]]
    finished: bool
    ema: bool | None
    loss_share: str | None
    branch: Mapping[str, Any] | None
    escape: Reached | None


@frozen(kw_only=True)
class Diagnostics:
    """Means over a method's logs of what training tells; None or empty where it did not.

    Attributes:
        clipped_share: share of steps whose gradient was clipped.
        noise_scale: mean trace of the gradient's covariance over the mean squared norm of the
            gradient (arXiv 1812.06162), in the unit in which training logged the trace.
        nll_at_t: mean loss by bin of t, nats per token of the loss, by the bin's centre.
    """

    clipped_share: float | None
    noise_scale: float | None
    nll_at_t: Mapping[str, float]


@frozen(kw_only=True)
class MethodResult:
    """One method.

    Attributes:
        label: its name.
        seeds: of its runs.
        best: its lowest point; chosen on the same blocks, so a little too good.
        final: its last point.
        curve: all points.
        runs: what it is made of.
        diagnostics: what training logged.
    """

    label: str
    seeds: Sequence[int]
    best: Point
    final: Point
    curve: Curve
    runs: Sequence[RunFacts]
    diagnostics: Diagnostics


@frozen(kw_only=True)
class PlateauResult:
    """The level of token frequencies, which curves stay at after their initial fall.

    Attributes:
        nelbo: nats per token.
        source: where it was found.
    """

    nelbo: float
    source: str


@frozen(kw_only=True)
class Escape:
    """When a method leaves the plateau.

    Attributes:
        method: its label.
        steps: geometric mean over its runs.
        ratio: of the baseline's steps to it; None for the baseline itself.
    """

    method: str
    steps: Reached
    ratio: Ratio | None


@frozen(kw_only=True)
class NoWorse:
    """The non-inferiority test of one method.

    Attributes:
        method: its label.
        step, baseline_step: the validations that are compared.
        covers: whose variation the bound covers.
        parts: all blocks first, then by mask ratio.
    """

    method: str
    step: int
    baseline_step: int
    covers: str
    parts: Sequence[Difference]


@frozen(kw_only=True)
class Comparison:
    """What `mdmkit.compare` found.

    Attributes:
        baseline: the label of the method that the others are compared to.
        methods: all of them, the baseline among them.
        plateau: where it was found, or None.
        escapes: of every method; empty without a plateau.
        speed_ups: of every other method, at every level.
        no_worse: of every other method.
        settings: how it was computed.
        ground: what the runs were validated on.
        environment: versions.
        notes: what a reader must know.
    """

    baseline: str
    methods: Sequence[MethodResult]
    plateau: PlateauResult | None
    escapes: Sequence[Escape]
    speed_ups: Sequence[SpeedUp]
    no_worse: Sequence[NoWorse]
    settings: Mapping[str, Any]
    ground: Mapping[str, Any]
    environment: Mapping[str, Any]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return attrs.asdict(self)
