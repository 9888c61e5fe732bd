"""Kumaraswamy time sampling for mdmkit.

A two-parameter density on (0, 1) much like the beta density, but with a quantile function in
closed form (P. Kumaraswamy, "A generalized probability density function for double-bounded
random processes", Journal of Hydrology 46 (1980), 79-88).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option

MDMKIT_API = 1


@frozen(kw_only=True)
class Kumaraswamy:
    """q(t) = a·b·t^(a−1)·(1 − t^a)^(b−1), a bell where a > 1 and b > 1.

    The defaults are our choice: a = 2 makes the density rise in proportion to t, and b = 2.5 then
    puts its mode ((a − 1)/(a·b − 1))^(1/a) at 1/2 exactly. Mean .491, standard deviation .212.
    """

    a: float = option(2.0, gt=0, doc="near t = 0 the density goes as t^(a − 1)")
    b: float = option(2.5, gt=0, doc="near t = 1 the density goes as (1 − t)^(b − 1)")

    def at(self, step: int) -> Kumaraswamy:  # noqa: ARG002 - the same at every step
        """Itself: the density does not change."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """t = (1 − (1 − u)^(1/b))^(1/a), ``[B] -> [B]``, kept inside (0, 1)."""
        powered = -((-u).log1p() / self.b).expm1()
        return powered.pow(1 / self.a).clamp(2.0**-64, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        rest = -(self.a * t.log()).expm1()  # 1 − t^a, exact near t = 1
        return self.a * self.b * t.pow(self.a - 1) * rest.pow(self.b - 1)


@hookimpl
def mdmkit_time_samplers() -> Mapping[str, type]:
    """The time sampler of this plugin."""
    return {"kumaraswamy": Kumaraswamy}


def contract_examples(directory: Path) -> Iterator[Kumaraswamy]:  # noqa: ARG001 - needs no files
    """What ``pytest --mdmkit-contract mdmkit-kumaraswamy`` tries: bells, slopes and a trough."""
    yield Kumaraswamy()
    for a, b in itertools.product((0.7, 1.0, 5.0), (0.7, 1.0, 8.0)):
        yield Kumaraswamy(a=a, b=b)
