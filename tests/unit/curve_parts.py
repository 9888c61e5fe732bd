"""Components with known curves, for the tests of curves."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from mdmkit.plugins import load_catalogue
from mdmkit.protocols import CountLaw, RunFacts
from mdmkit.recipe import Recipe, load_recipe

CATALOGUE = load_catalogue({"MDMKIT_PLUGINS": "none"})


def recipe(*overrides: str, **parts: Any) -> Recipe:
    made = load_recipe("quickstart_bell", overrides, catalogue=CATALOGUE)
    return attrs.evolve(made, **parts)


@attrs.frozen(kw_only=True)
class Complementary:
    """The second twin masks what the first leaves visible."""

    group: ClassVar[int] = 2
    every_context: ClassVar[bool] = True
    count_law: ClassVar[CountLaw] = "binomial"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        return torch.where(member == 1, 1 - rate, rate)

    def mask(self, *, rate, noise, member, maskable, **_):
        return ((noise < rate[:, None]) ^ (member == 1)[:, None]) & maskable


@attrs.frozen(kw_only=True)
class OneRun:
    """One run of neighbours (the row is a ring), its length rounded at random."""

    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = False
    count_law: ClassVar[CountLaw] = "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        return rate

    def mask(self, *, rate, noise, row_noise, maskable, **_):
        length = maskable.shape[-1]
        count = (rate * length + row_noise).floor()
        start = (noise[:, :1] * length).floor()
        return (torch.arange(length) - start) % length < count[:, None]


@attrs.frozen(kw_only=True)
class NearVisible:
    """Weight 2 where the left neighbour (on a ring) is visible, else 1: ``[B, L]``."""

    normalizer: str = "tokens"

    def weight(self, *, mask, **_):
        return 1 + (~mask.roll(1, dims=-1)).double()


@attrs.frozen(kw_only=True)
class Shifting:
    """A uniform density on [0, 1/2) that becomes one on [1/2, 1): ``share(step)`` of the way."""

    by: str = "steps"

    def build(self, facts: RunFacts) -> LiveShifting:
        return LiveShifting(by=self.by, facts=facts)


@attrs.frozen(kw_only=True, eq=False)
class LiveShifting:
    by: str
    facts: RunFacts

    def at(self, step: int) -> Halves:
        done = step / (self.facts.steps - 1)
        shares = {
            "steps": done,
            "abrupt": float(done > 0.9),
            "bump": math.sin(math.pi * done),
            "learning_rate": 1 - self.facts.learning_rate(step),
        }
        return Halves(upper=min(max(shares[self.by], 0.0), 1.0))


@attrs.frozen
class Halves:
    upper: float

    def density(self, t: Tensor) -> Tensor:
        return torch.where(t < 0.5, 2 * (1 - self.upper), 2 * self.upper).double()

    def icdf(self, u: Tensor) -> Tensor:
        low = u / (2 * max(1 - self.upper, 1e-12))
        high = 0.5 + (u - (1 - self.upper)) / (2 * max(self.upper, 1e-12))
        return torch.where(u < 1 - self.upper, low, high).clamp(2.0**-64, 1 - 2.0**-53)


@attrs.frozen(kw_only=True)
class Asking:
    """A time sampler that looks at a fact of the run when it is built."""

    fact: str

    def build(self, facts: RunFacts) -> Any:
        return {
            "token_counts": lambda: facts.token_counts(),
            "vocab": lambda: facts.vocab.mask_id,
            "none": lambda: Adapting(),
        }[self.fact]()


@attrs.frozen(kw_only=True)
class Adapting:
    """Starts uniform; would follow the losses."""

    def at(self, step: int) -> Adapting:
        return self

    def density(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def icdf(self, u: Tensor) -> Tensor:
        return u

    def observe(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        raise AssertionError("nothing is trained")
