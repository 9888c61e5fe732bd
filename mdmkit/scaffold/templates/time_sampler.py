"""A time sampler for mdmkit: more training where more is masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.protocols import TimeSampler

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """q(t) = k·t^(k − 1): rises towards fully masked text where k > 1."""

    power: float = option(2.0, gt=0, doc="k; 1 is uniform")

    def at(self, step: int) -> Example:
        """Itself: the density is the same at every step."""
        return self

    def icdf(self, u: Tensor) -> Tensor:
        """t = u^(1/k), ``[B] -> [B]``, kept inside (0, 1)."""
        return u.pow(1 / self.power).clamp(2.0**-64, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        return self.power * t.pow(self.power - 1)


@hookimpl
def mdmkit_time_samplers() -> Mapping[str, type[TimeSampler]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(power=0.5)
