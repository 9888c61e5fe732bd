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
        seed: of masks and of generation; equal seeds give equal answers, whatever the batch size.
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
        problems = []
        for field in fields(Protocol):
            value: Any = getattr(self, field.name)
            wanted = type(field.default)
            low, high = _RANGES.get(field.name, (-math.inf, math.inf))
            if type(value) is not wanted:
                problems.append(f"{field.name}: expected {_WORDS[wanted]}, got {value!r}")
            elif not low <= value <= high:
                bound = f"at least {low}" if value < low else f"at most {high}"
                problems.append(f"{field.name}: expected {bound}, got {value}")
        if problems:
            raise RecipeError(problems)


_RANGES: dict[str, tuple[float, float]] = {
    "draws": (2, math.inf),
    "enumerate": (0, 12),
    "max_gen_toks": (1, math.inf),
}
_WORDS = {int: "a whole number", bool: "true or false"}
