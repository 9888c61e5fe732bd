"""A noise schedule for mdmkit: most of the text is masked early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.protocols import NoiseSchedule

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """alpha_t = (1 − t)^p: linear with p = 1, and the larger p, the sooner all is masked."""

    power: float = option(2.0, ge=1, le=3, doc="p, the exponent of 1 − t")

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability of a token, ``[B] -> [B]``."""
        return (1 - t).pow(self.power)

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative −p·(1 − t)^(p − 1), ``[B] -> [B]``."""
        return -self.power * (1 - t).pow(self.power - 1)


@hookimpl
def mdmkit_noise_schedules() -> Mapping[str, type[NoiseSchedule]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(power=1.0)
