"""An objective that turns from a bell's into the NELBO, whatever the times are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.weightings.plain import NORMALIZER_DOC
from mdmkit.diffusion import nelbo_weight
from mdmkit.errors import RecipeError
from mdmkit.options import component, option
from mdmkit.protocols import Density, NoiseSchedule, Normalizer, RunFacts, TimeSampler

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

FLOOR = 1e-9
"""The least effective weight on h: far from its centre a bell is 0 in float64."""
_QUANTILES = 8192  # midpoints in u over which Z is averaged


@frozen(kw_only=True)
class Annealed:
    """The effective weight of a bell's unweighted loss, turning into that of the NELBO.

    With mask ratio r = 1 − alpha_t and p(r) = q_bell(t)/|alpha'_t|, the density of r that the
    sampler ``bell`` has under the run's schedule, the loss is for every density q of t

        ∫ w_s(r)·h(r) dr,  w_s(r) = (1 − a_s)·r·p(r)/Z + a_s,  Z = ∫ r·p(r) dr,

    with the linear schedule w_s(t) = (1 − a_s)·t·q_bell(t)/Z + a_s. A token weighs
    w_s(r)·(−alpha'_t/(1 − alpha_t))/q(t) = ((1 − a_s)·q_bell(t)/Z + a_s·(−alpha'_t/r))/q(t).
    a_s goes from ``start`` to ``final``. With a = 0 this is the objective of ``flat`` under the
    bell (normalizer masked), with a = 1 it is ``elbo``; ``final = 0`` keeps the bell's objective
    while t may be drawn from anything. w_s is at least 1e-9, so that every weight is positive.
    The weight is unbiased for that integral for independent masks and as long as ``max_weight``
    cuts nothing off. Ours.
    """

    bell: TimeSampler = component("bell", doc="the density q_bell that gives the objective")
    start: float = option(
        0.0, ge=0, le=1, doc="a at the start: 0 the bell's objective, 1 the NELBO"
    )
    final: float = option(1.0, ge=0, le=1, doc="a when the change is complete")
    anneal: Annealing = option(
        factory=partial(Annealing, by="learning_rate"), doc="when start turns into final"
    )
    max_weight: float | None = option(None, gt=0, doc="the largest weight of a token; unset: none")
    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A change that the run cannot make."""
        if self.start != self.final:
            yield from self.anneal.problems(recipe)

    def build(self, facts: RunFacts) -> LiveAnnealed:
        """The weighting in a run of known length and schedule.

        Raises:
            RecipeError: for a bell that adapts to the training, which nobody would tell of it.
        """
        bell = facts.live(self.bell)
        if hasattr(bell, "observe") or hasattr(bell, "validated"):
            raise RecipeError(
                "[loss_weighting] bell: expected a density that is known beforehand, got a time "
                "sampler that adapts to the training; choose another with use"
            )
        return LiveAnnealed(
            options=self,
            bell=bell,
            level=self.anneal.course(self.start, self.final, facts),
            mean_ratio=_mean_ratio(bell, facts.schedule()),
        )


def _mean_ratio(bell: TimeSampler, schedule: NoiseSchedule) -> Callable[[int], float]:
    """Z = E[1 − alpha_t] with t from the bell, by step."""
    u = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    last: tuple[Density | None, float] = (None, 0.0)  # many bells are the same at every step

    def mean_ratio(step: int) -> float:
        nonlocal last
        density = bell.at(step)
        if density is not last[0]:
            last = density, float((1 - schedule.alpha(density.icdf(u))).mean())
        return last[1]

    return mean_ratio


@frozen(kw_only=True, eq=False)
class LiveAnnealed:
    """`Annealed` with its bell, and what depends on the step: a_s and Z."""

    options: Annealed
    bell: TimeSampler
    level: Callable[[int], float]
    mean_ratio: Callable[[int], float]

    @property
    def normalizer(self) -> Normalizer:
        """What the weighted sum is divided by."""
        return self.options.normalizer

    def weight(
        self,
        *,
        t: Tensor,
        alpha_t: Tensor,
        dalpha_t: Tensor,
        density: Tensor,
        step: int,
        **_: Any,
    ) -> Tensor:
        """``[B]`` float64, see `Annealed`."""
        a, nelbo = self.level(step), nelbo_weight(alpha_t, dalpha_t)
        bell = self.bell.at(step).density(t) / self.mean_ratio(step)
        weight = torch.maximum((1 - a) * bell + a * nelbo, FLOOR * nelbo) / density
        limit = self.options.max_weight
        return weight if limit is None else weight.clamp(max=limit)
