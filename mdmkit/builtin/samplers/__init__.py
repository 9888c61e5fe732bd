"""Samplers: ways to turn masks into text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdmkit.builtin.samplers.ancestral import Ancestral, Cached
from mdmkit.builtin.samplers.any_order import AnyOrderSampler
from mdmkit.builtin.samplers.autoregressive import AutoregressiveSampler
from mdmkit.builtin.samplers.confidence import Confidence
from mdmkit.builtin.samplers.first_hitting import FirstHitting
from mdmkit.builtin.samplers.remask import Remask
from mdmkit.builtin.samplers.semi_autoregressive import SemiAutoregressive
from mdmkit.hookspecs import hookimpl

__all__ = [
    "Ancestral",
    "AnyOrderSampler",
    "AutoregressiveSampler",
    "Cached",
    "Confidence",
    "FirstHitting",
    "Remask",
    "SemiAutoregressive",
    "contract_examples",
    "mdmkit_samplers",
]


@hookimpl
def mdmkit_samplers() -> Mapping[str, type]:
    """The samplers of this package."""
    return {
        "ancestral": Ancestral,
        "cached": Cached,
        "first_hitting": FirstHitting,
        "confidence": Confidence,
        "semi_autoregressive": SemiAutoregressive,
        "remask": Remask,
        "autoregressive": AutoregressiveSampler,
        "any_order": AnyOrderSampler,
    }


def contract_examples(directory: Path) -> Iterator[Any]:  # noqa: ARG001 - it needs no files
    """What `mdmkit.testing` tries: few steps, and each way to choose once."""
    yield Ancestral(steps=8)
    yield Cached(steps=20)
    yield FirstHitting(tokens_per_call=2)
    yield Confidence(steps=4)
    yield Confidence(score="entropy", rule="entropy_bounded")
    yield SemiAutoregressive(sampler=Cached(steps=4), block_length=5)
    yield Remask(steps=8, strategy="conf")
    yield AutoregressiveSampler()
    yield AnyOrderSampler()
    yield AnyOrderSampler(order="left_to_right", eos="stop")
