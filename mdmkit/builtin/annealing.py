"""How something turns into something else over a run: a table that several components share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from mdmkit.options import option
from mdmkit.protocols import RunFacts

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Annealing:
    """When a change happens: with the steps, or while the learning rate decays.

    ``steps``: linear from 0 at ``begin`` to 1 at ``end``, both as shares of the run's steps.
    ``learning_rate``: a_s = (1 - f_s)/(1 - f_last), f_s being the learning rate of step s over its
    peak, after the peak; it is 0 until the decay begins and 1 at the last step.
    """

    by: Literal["steps", "learning_rate"] = option("steps", doc="what it goes along with")
    begin: float = option(0.0, ge=0, le=1, doc="steps: share of the run at which it begins")
    end: float = option(1.0, ge=0, le=1, doc="steps: share of the run at which it is complete")

    def problems(self, recipe: Recipe) -> Iterator[str]:
        """What does not fit, for the ``check`` of the component that holds this table."""
        if self.by == "steps" and self.begin > self.end:
            yield f"anneal: begin ({self.begin:g}) comes after end ({self.end:g})"
        if self.by == "learning_rate" and recipe.learning_rate.shape == "constant":
            yield (
                'anneal: by = "learning_rate" needs a learning rate that decays, but '
                'learning_rate.shape is "constant"; use "wsd", or by = "steps"'
            )

    def progress(self, facts: RunFacts) -> Callable[[int], float]:
        """The share of the change that is done at a 0-based step, in [0, 1]."""
        ways = {"steps": self._with_steps, "learning_rate": self._with_learning_rate}
        return ways[self.by](facts)

    def course(self, start: float, final: float, facts: RunFacts) -> Callable[[int], float]:
        """A number that goes from `start` to `final` with the change, by 0-based step.

        Both are met exactly: (1 − p)·start + p·final with the progress p.
        """
        if start == final:
            return lambda _step: final
        progress = self.progress(facts)

        def value(step: int) -> float:
            done = progress(step)
            return (1 - done) * start + done * final

        return value

    def _with_steps(self, facts: RunFacts) -> Callable[[int], float]:
        last = facts.steps - 1  # of the 0-based steps, so that 1 is the last one
        begin, end = self.begin * last, self.end * last

        def progress(step: int) -> float:
            if end <= begin:
                return float(step >= begin)
            return min(max((step - begin) / (end - begin), 0.0), 1.0)

        return progress

    def _with_learning_rate(self, facts: RunFacts) -> Callable[[int], float]:
        last = facts.steps - 1
        peak = max(range(facts.steps), key=facts.learning_rate)
        fall = facts.learning_rate(peak) - facts.learning_rate(last)

        def progress(step: int) -> float:
            if step <= peak or fall <= 0:
                return 0.0
            fallen = facts.learning_rate(peak) - facts.learning_rate(min(step, last))
            return min(max(fallen / fall, 0.0), 1.0)

        return progress
