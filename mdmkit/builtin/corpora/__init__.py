"""Corpora: named splits of text documents."""

from __future__ import annotations

from collections.abc import Mapping

from mdmkit.builtin.corpora.hub import Hub, Lm1b
from mdmkit.builtin.corpora.state_of_the_union import StateOfTheUnion
from mdmkit.builtin.corpora.text import Text
from mdmkit.hookspecs import hookimpl

__all__ = ["Hub", "Lm1b", "StateOfTheUnion", "Text", "mdmkit_corpora"]


@hookimpl
def mdmkit_corpora() -> Mapping[str, type]:
    """The corpora of this package."""
    return {"state_of_the_union": StateOfTheUnion, "text": Text, "hub": Hub, "lm1b": Lm1b}
