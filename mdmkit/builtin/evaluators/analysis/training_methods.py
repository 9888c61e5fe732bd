"""The trainings whose gradients are compared, all at the same weights."""

from __future__ import annotations

from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.nelbo.designs import ROOT_SHARE, allocated_rate
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import MaskedDiffusion
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Elbo, Flat
from mdmkit.protocols import Objective, ObjectiveContext

REFERENCE = "nelbo"
"""The name of the method whose expected gradient is that of the NELBO, sampled well."""


@frozen(kw_only=True, eq=False)
class Method:
    """A way to train.

    Attributes:
        name: in names of numbers.
        title: in pictures.
        objective: live.
    """

    name: str
    title: str
    objective: Objective


@frozen(kw_only=True)
class Allocated:
    """Times as often as the weight 1/t makes them noisy: see `nelbo.designs.allocated_rate`."""

    def at(self, step: int) -> Allocated:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile of u, ``[B] -> [B]`` float64."""
        return allocated_rate(u.double())

    def density(self, t: Tensor) -> Tensor:
        """q(t) = s/(2√t) + 1 − s, ``[B] -> [B]``."""
        return ROOT_SHARE / (2 * t.sqrt()) + 1 - ROOT_SHARE


def training_methods(
    training: ObjectiveContext, *, own: MaskedDiffusion | None, width: float
) -> list[Method]:
    """The reference, then standard training, without its weight, with a bell, and the run's own.

    All mask independently but the run's own, which has the run's pattern, and is left out where it
    is one of the others.

    Args:
        training: what the run's objective was built from.
        own: how the run draws masks from that; None leaves it out.
        width: of the bell.
    """
    nelbo = evolve(training, mask_pattern=Independent(), loss_weighting=Elbo())
    parts = {
        (REFERENCE, "NELBO"): evolve(nelbo, time_sampler=Allocated()),
        ("uniform_1t", "uniform, 1/t"): evolve(nelbo, time_sampler=Uniform()),
        ("uniform_flat", "uniform, flat"): evolve(
            nelbo, time_sampler=Uniform(), loss_weighting=Flat()
        ),
        ("bell_flat", "bell, flat"): evolve(
            nelbo, time_sampler=Bell(width=width), loss_weighting=Flat()
        ),
    }
    standard = MaskedDiffusion()
    methods = [
        Method(name=name, title=title, objective=standard.build(part))
        for (name, title), part in parts.items()
    ]
    known = own == standard and any(_same(training, other) for other in parts.values())
    if own is not None and not known:
        objective = own.build(training)
        methods.append(Method(name="own", title="the run's own", objective=objective))
    return methods


def _same(one: ObjectiveContext, other: ObjectiveContext) -> bool:
    names = ("time_sampler", "mask_pattern", "loss_weighting")
    return all(getattr(one, name) == getattr(other, name) for name in names)
