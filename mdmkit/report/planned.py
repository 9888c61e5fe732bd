"""The components of a recipe as they are before its run: built from what the recipe alone says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs
from attrs import frozen

from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.protocols import (
    LossWeighting,
    MaskPattern,
    NoiseSchedule,
    RunFacts,
    TimeSampler,
)

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe
    from mdmkit.values import Vocabulary


class NotKnownYet(Exception):  # noqa: N818 - it is no error of the user's
    """A component asked for something that only the run knows."""


@frozen(kw_only=True, eq=False)
class Planned:
    """What decides masks and weights, live, with the length L of a block."""

    length: int
    noise_schedule: NoiseSchedule
    time_sampler: TimeSampler
    mask_pattern: MaskPattern
    loss_weighting: LossWeighting


def planned(recipe: Recipe) -> Planned:
    """Bring the components to life with the facts that are known before the run.

    Those are the length, the steps, the global batch size and the learning rate. The vocabulary
    and the token counts come from the text: who looks at them, now or later, gets `NotKnownYet`.

    Raises:
        NotKnownYet: naming the component and what it asked for.
    """

    def live(table: str, noise_schedule: NoiseSchedule | None = None) -> Any:
        facts = attrs.evolve(_facts(recipe, table), noise_schedule=noise_schedule)
        return facts.live(getattr(recipe, table))

    schedule = live("noise_schedule")
    return Planned(
        length=recipe.data.length,
        noise_schedule=schedule,
        time_sampler=live("time_sampler", schedule),
        mask_pattern=live("mask_pattern", schedule),
        loss_weighting=live("loss_weighting", schedule),
    )


def _facts(recipe: Recipe, table: str) -> RunFacts:
    kind = table.replace("_", " ")
    unknown = _Unknown(kind)

    def token_counts() -> NoReturn:
        raise NotKnownYet(f"the {kind} is built from facts of the run: from its token counts")

    return RunFacts(
        vocab=cast("Vocabulary", unknown),
        length=recipe.data.length,
        steps=recipe.train.steps,
        global_batch_size=recipe.train.global_batch_size,
        learning_rate=learning_rate_fraction(recipe.learning_rate, recipe.train.steps),
        token_counts=token_counts,
    )


class _Unknown:
    """Stands for a vocabulary that only the run will know; may be kept, but not looked at."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> NoReturn:
        raise NotKnownYet(f"the {self._kind} is built from facts of the run: from its vocabulary")
