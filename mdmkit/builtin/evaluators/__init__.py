"""Evaluators: numbers about a trained network, each with its standard error."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.evaluators.choice import LastWord, MultipleChoice
from mdmkit.builtin.evaluators.nelbo import Nelbo
from mdmkit.hookspecs import hookimpl

__all__ = ["LastWord", "MultipleChoice", "Nelbo", "mdmkit_evaluators"]


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type]:
    """The evaluators of this package."""
    return {"nelbo": Nelbo, "multiple_choice": MultipleChoice, "last_word": LastWord}
