"""A live objective and what its contract checks try it on."""

from __future__ import annotations

from attrs import evolve, frozen
from torch import Tensor

from mdmkit.draws import StepDraws
from mdmkit.protocols import Objective, Prediction
from mdmkit.testing.errors import Contract
from mdmkit.values import Batch, Noised, Vocabulary

ROWS, LENGTH = 12, 8


@frozen(kw_only=True)
class Subject:
    """A live objective and what it is tried on."""

    contract: Contract
    objective: Objective
    prediction: Prediction
    vocab: Vocabulary
    batch: Batch

    def rows(self, which: Tensor) -> Batch:
        """These rows of the batch; rows of a group share one sequence."""
        parts = {
            name: part[which // self.objective.group]
            for name in ("tokens", "real", "maskable", "rows")
            if (part := getattr(self.batch, name)) is not None
        }
        return evolve(self.batch, **parts)

    def corrupt(self, which: Tensor, step: int = 3) -> Noised:
        """The task of these rows of the global batch."""
        return self.objective.corrupt(self.rows(which), self.draws(which, step))

    def draws(self, which: Tensor, step: int = 3) -> StepDraws:
        """The numbers of these rows."""
        return StepDraws(seed=5, step=step, rows=which, global_rows=ROWS)
