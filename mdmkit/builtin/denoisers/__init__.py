"""Denoisers: the networks that say what is under the masks."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.hookspecs import hookimpl


@hookimpl
def mdmkit_denoisers() -> Mapping[str, type]:
    """The denoisers we ship."""
    return {"dit": Dit}
