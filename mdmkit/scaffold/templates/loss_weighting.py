"""A loss weighting for mdmkit: between none and 1/t."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.protocols import LossWeighting, Normalizer

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """(1 − alpha_t)^(−p): no weight with p = 0; with p = 1 and a linear schedule 1/t."""

    power: float = option(0.5, ge=0, le=1, doc="p, the exponent of the mask rate")
    normalizer: Normalizer = option("weights", doc="what the weighted sum is divided by")

    def weight(self, *, alpha_t: Tensor, **_: Any) -> Tensor:
        """``[B]`` float64, see the class."""
        return (1 - alpha_t).pow(-self.power)


@hookimpl
def mdmkit_loss_weightings() -> Mapping[str, type[LossWeighting]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(power=1.0, normalizer="tokens")
