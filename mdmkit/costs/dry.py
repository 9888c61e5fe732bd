"""The objective of a recipe at work on rows that mean nothing, for their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from attrs import frozen

from mdmkit.draws import StepDraws
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.network import bring_to_life
from mdmkit.protocols import Objective, RunFacts
from mdmkit.values import Batch, Noised, Vocabulary

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True, eq=False)
class Dry:
    """A recipe's objective, live, without its text.

    Attributes:
        recipe: of which it is.
        objective: as a run of the recipe would have it at its start.
    """

    recipe: Recipe
    objective: Objective

    def corrupted(self, rows: int, step: int = 0) -> Noised:
        """A micro-batch that is the whole of `step`, with its places: ``[rows, L]`` on the CPU.

        Rows are full. They have documents and padding where the packing asks the denoiser for
        them, since that decides how attention is computed.
        """
        length = self.recipe.data.length
        needs: frozenset[str] = getattr(self.recipe.data.packing, "needs", frozenset())
        tokens = torch.full((rows, length), 2)
        batch = Batch(
            tokens=tokens,
            real=tokens > 0 if "padding" in needs else None,
            document_ids=tokens if "document_ids" in needs else None,
        )
        numbers = torch.arange(rows)
        draws = StepDraws(seed=0, step=step, rows=numbers, global_rows=rows)
        return self.objective.corrupt(batch, draws).placed()


def dry_objective(recipe: Recipe, vocab_size: int = 512) -> Dry:
    """Bring the objective of `recipe` to life with V = `vocab_size` and equal token counts."""
    facts = RunFacts(
        vocab=Vocabulary(size=vocab_size, mask_id=vocab_size - 1, bos_id=0, eos_id=0, pad_id=1),
        length=recipe.data.length,
        steps=recipe.train.steps,
        global_batch_size=recipe.train.global_batch_size,
        learning_rate=learning_rate_fraction(recipe.learning_rate, recipe.train.steps),
        token_counts=lambda: torch.ones(vocab_size, dtype=torch.float64),
    )
    return Dry(recipe=recipe, objective=bring_to_life(recipe, facts).objective)
