"""Time samplers made of two others: mixed, or one turning into the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.time_samplers.online import interpolate
from mdmkit.diffusion import TINY
from mdmkit.options import option
from mdmkit.protocols import Density, RunFacts, TimeSampler

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_POINTS = 4096  # of each quantile function that is tabulated


@frozen(kw_only=True)
class Mixture:
    """q(t) = (1 − share)·q_first(t) + share·q_second(t).

    Two time samplers as sub-tables; for more, a mixture may hold mixtures. Its quantiles come
    from tables of the quantiles of both, see `annealed`.
    """

    first: TimeSampler = option(doc="one density")
    second: TimeSampler = option(doc="the other one")
    share: float = option(0.5, ge=0, le=1, doc="of the mass that is the second's")

    def build(self, facts: RunFacts) -> Blend:
        """The live sampler, with live parts."""
        return blend(("first", self.first), ("second", self.second), lambda _: self.share, facts)


@frozen(kw_only=True)
class Annealed:
    """One density turning into another: q_s(t) = (1 − a_s)·q_start(t) + a_s·q_end(t).

    a_s is the progress of `anneal` at step s, from 0 to 1. The density is exact. Its quantiles
    are those of piecewise linear distribution functions through 4096 quantiles of either part:
    within 1/4096 in probability in the worst case, and some 1e-5 for smooth densities.
    """

    start: TimeSampler = option(doc="the density at first")
    end: TimeSampler = option(doc="the density in the end")
    anneal: Annealing = option(Annealing(), doc="when the one turns into the other")

    def check(self, recipe: Recipe) -> Iterator[str]:
        """What does not fit of the annealing."""
        yield from self.anneal.problems(recipe)

    def build(self, facts: RunFacts) -> Blend:
        """The live sampler, with live parts."""
        progress = self.anneal.progress(facts)
        return blend(("start", self.start), ("end", self.end), progress, facts)


def blend(
    first: tuple[str, TimeSampler],
    second: tuple[str, TimeSampler],
    share: Callable[[int], float],
    facts: RunFacts,
) -> Blend:
    """The live blend of two parts, each a name and options; it learns if one of them does."""
    parts = {name: facts.live(options) for name, options in (first, second)}
    learning = any(hasattr(part, "state_dict") for part in parts.values())
    return (LearningBlend if learning else Blend)(parts, share)


class Blend:
    """A time sampler whose density is the mixture of two others', at a share that may change."""

    def __init__(self, parts: dict[str, Any], share: Callable[[int], float]) -> None:
        """Mix two live samplers, by name; ``share(step)`` of the mass is the second's."""
        self._parts, self._share = parts, share
        self._last: BlendDensity | None = None

    def at(self, step: int) -> Density:
        """The density for optimizer step `step`."""
        densities: list[Density] = [part.at(step) for part in self._parts.values()]
        share = self._share(step)
        if share in (0.0, 1.0):
            return densities[int(share)]
        last = self._last.parts if self._last else (None, None)
        first, second = (
            table if table is not None and table.density is density else _Table(density)
            for table, density in zip(last, densities, strict=True)
        )
        if self._last is None or (*self._last.parts, self._last.share) != (first, second, share):
            self._last = BlendDensity(first, second, share=share)
        return self._last


class LearningBlend(Blend):
    """A `Blend` with a part that learns: what is observed is handed on, and its state is kept."""

    def observe(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        """Hand on the rows of one global batch, ``[G]`` each."""
        for part in self._parts.values():
            if hasattr(part, "observe"):
                part.observe(t, nll, count)

    def validated(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        """Hand on the masked blocks of a validation, ``[N]`` each."""
        for part in self._parts.values():
            if hasattr(part, "validated"):
                part.validated(t, nll, count)

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, each name with that of its part in front."""
        return {
            f"{name}.{key}": value
            for name, part in self._parts.items()
            if hasattr(part, "state_dict")
            for key, value in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each part its own state back."""
        for name, part in self._parts.items():
            if hasattr(part, "load_state_dict"):
                prefix = f"{name}."
                own = {
                    key.removeprefix(prefix): value
                    for key, value in state.items()
                    if key.startswith(prefix)
                }
                part.load_state_dict(own)


class _Table:
    """A density, and its distribution function tabulated through its quantiles."""

    def __init__(self, density: Density) -> None:
        self.density = density
        middle = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) / _POINTS
        tail = torch.logspace(-15, -4, 23, dtype=torch.float64)
        inner = torch.cat([tail, middle, 1 - tail.flip(0)])
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        self._u = torch.cat([ends[:1], inner, ends[1:]])
        self.t = torch.cat([ends[:1], density.icdf(inner), ends[1:]])

    def below(self, t: Tensor) -> Tensor:
        """The mass below t, ``[B] -> [B]``."""
        return interpolate(t, self.t, self._u)


class BlendDensity:
    """The mixture of two tabulated densities."""

    def __init__(self, first: _Table, second: _Table, *, share: float) -> None:
        """Mix them; `share`, inside (0, 1), of the mass is the second's."""
        self.parts, self.share = (first, second), share
        self._t = torch.cat([first.t, second.t]).sort().values
        self._below = (1 - share) * first.below(self._t) + share * second.below(self._t)

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile of u, ``[B] -> [B]`` float64, inside (0, 1)."""
        return interpolate(u.double(), self._below, self._t).clamp(TINY, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        first, second = (part.density.density(t) for part in self.parts)
        return (1 - self.share) * first + self.share * second
