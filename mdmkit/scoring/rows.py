"""Rows of tokens and their masks, collected so that what is the same is scored once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import field, frozen

from mdmkit.protocols import EvaluationContext
from mdmkit.scoring.masks import Masks, QuestionDraws, all_masks, whole
from mdmkit.scoring.questions import Encoded
from mdmkit.scoring.work import ScoredRow


@frozen(kw_only=True, eq=False)
class Rows:
    """Collects rows, each once.

    Attributes:
        context: of the evaluation.
        draws: D, masks of an answer that is not enumerated.
        enumerate_up_to: all masks are tried where no answer of a question has more tokens.
        rows: those that have been met.
    """

    context: EvaluationContext
    draws: int
    enumerate_up_to: int
    rows: list[ScoredRow] = field(factory=list)
    _known: dict[object, int] = field(factory=dict)

    def add(self, question: int | str, parts: Sequence[Encoded]) -> list[int]:
        """The rows of what belongs to one question, which shares its random numbers.

        Args:
            question: its number, or any other name; its random numbers depend on it.
            parts: its answers.
        """
        if not parts:
            return []
        masks = self._masks(question, max(part.count for part in parts))
        return [self._place(part, masks(part.count), question) for part in parts]

    def _place(self, part: Encoded, masks: Masks, question: int | str) -> int:
        """The row of a text; a new one where it has not been met with the same masks."""
        key = (part.tokens, part.count, question if masks.drawn else None)
        if key not in self._known:
            self._known[key] = len(self.rows)
            self.rows.append(ScoredRow(tokens=torch.tensor(part.tokens), masks=masks))
        return self._known[key]

    def _masks(self, question: int | str, longest: int) -> Callable[[int], Masks]:
        """The masks of a question's answer of so many tokens."""
        if self.context.objective.exact:
            return whole
        if longest <= self.enumerate_up_to:
            return all_masks
        numbers = QuestionDraws.of(self.context, question, self.draws, longest)
        known: dict[int, Masks] = {}

        def masks(count: int) -> Masks:
            if count <= self.enumerate_up_to:
                return all_masks(count)
            if count not in known:
                known[count] = numbers.masks(count)
            return known[count]

        return masks
