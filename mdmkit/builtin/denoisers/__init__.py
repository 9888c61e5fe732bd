"""Denoisers: the networks that say what is under the masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.denoisers.transformer import Transformer
from mdmkit.hookspecs import hookimpl


@hookimpl
def mdmkit_denoisers() -> Mapping[str, type]:
    """The denoisers we ship."""
    return {"dit": Dit, "transformer": Transformer}


def contract_examples(directory: Path) -> Iterator[Dit | Transformer]:  # noqa: ARG001 - it needs no files
    """What `mdmkit.testing` tries: small networks, with and without their options."""
    yield Dit(width=16, depth=2, heads=2, conditioning_width=8)
    yield Dit(width=16, depth=2, heads=2, adaln=False)
    yield Dit(width=16, depth=2, heads=2, conditioning_width=8, time_conditioning=True, tied=True)
    yield Transformer(width=16, depth=2, heads=2)
    yield Transformer(width=16, depth=2, heads=2, mlp="relu2", mlp_multiple=8, tied=False)
