"""Evaluators: numbers about a trained network, each with its standard error."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.evaluators.duel import Duel
from mdmkit.builtin.evaluators.nelbo import Nelbo
from mdmkit.hookspecs import hookimpl

__all__ = ["Duel", "Nelbo", "mdmkit_evaluators"]


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type]:
    """The evaluators of this package."""
    return {"nelbo": Nelbo, "duel": Duel}
