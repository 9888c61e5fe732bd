"""A mask pattern for mdmkit: neighbours are masked together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.protocols import CountLaw, MaskPattern

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """Cuts the row into spans, each masked as a whole or not at all."""

    span: int = option(2, ge=2, doc="tokens of a span")
    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = False  # a part of a span is never visible without the rest
    count_law: ClassVar[CountLaw] = "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        """The rate that was asked for, ``[B]``."""
        return rate

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        """Mask where the noise of the span's first token is below the rate: ``[B, L]`` bool."""
        place = torch.arange(noise.shape[-1], device=noise.device)
        first = place // self.span * self.span  # [L]
        return (noise[:, first] < rate[:, None]) & maskable


@hookimpl
def mdmkit_mask_patterns() -> Mapping[str, type[MaskPattern]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try."""
    yield Example()
    yield Example(span=5)
