"""Samplers: ways to turn masks into text."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.samplers.ancestral import Ancestral, Cached
from mdmkit.builtin.samplers.autoregressive import AutoregressiveSampler
from mdmkit.hookspecs import hookimpl

__all__ = ["Ancestral", "AutoregressiveSampler", "Cached", "mdmkit_samplers"]


@hookimpl
def mdmkit_samplers() -> Mapping[str, type]:
    """The samplers of this package."""
    return {"ancestral": Ancestral, "cached": Cached, "autoregressive": AutoregressiveSampler}
