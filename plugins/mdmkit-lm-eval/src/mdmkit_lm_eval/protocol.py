"""How requests are answered: what a user may choose, checked."""

from __future__ import annotations

import math
from typing import Any

from attrs import fields, frozen

from mdmkit import RecipeError


@frozen(kw_only=True)
class Protocol:
    """How requests are answered.

    Attributes:
        seed: of masks and of generation, 0 to 2³² − 1; equal seeds give equal answers, whatever
            the batch size.
        draws: masks of an answer that is not enumerated; two at least, for an error.
        enumerate: up to so many tokens all masks of an answer are tried: its NELBO is exact.
        bos: whether BOS stands in front of each row.
        greedy: whether it is found out if an answer is what would be filled in greedily; False
            saves time, and then no answer counts as such.
        max_gen_toks: tokens to be generated where a task does not say.
    """

    seed: int = 0
    draws: int = 16
    enumerate: int = 5
    bos: bool = False
    greedy: bool = True
    max_gen_toks: int = 256

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            RecipeError: with a line for each option that is wrong.
        """
        found = [
            _problem(field.name, getattr(self, field.name), type(field.default))
            for field in fields(Protocol)
        ]
        if problems := [problem for problem in found if problem is not None]:
            raise RecipeError(problems)


def _problem(name: str, value: Any, wanted: type) -> str | None:
    """What is wrong with an option; a bool is no number."""
    low, high = _RANGES.get(name, (-math.inf, math.inf))
    kind: type = type(value)
    if kind is not wanted:
        return f"{name}: expected {_WORDS[wanted]}, got {value!r}"
    if not low <= value <= high:
        bound = f"at least {low}" if value < low else f"at most {high}"
        return f"{name}: expected {bound}, got {value}"
    return None


_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),  # what numpy takes
    "draws": (2, math.inf),
    "enumerate": (0, 12),
    "max_gen_toks": (1, math.inf),
}
_WORDS: dict[type, str] = {int: "a whole number", bool: "true or false"}
