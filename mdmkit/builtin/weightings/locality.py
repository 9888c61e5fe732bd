"""A weight by token: how near the context is that a masked token still has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.annealing import Annealing
from mdmkit.builtin.weightings.plain import NORMALIZER_DOC
from mdmkit.options import option
from mdmkit.protocols import Normalizer, RunFacts

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

FLOOR = 1e-9
"""The least g: exp(−(d − 1)/scale) is 0 in float64 far from everything visible."""


@frozen(kw_only=True)
class Locality:
    """A masked token counts the more, the nearer its nearest visible token.

    With d_i the distance in positions from token i to the nearest one that is not masked, on
    either side (L where the whole row is masked), and

        g(d) = exp(−(d − 1)/``scale``) (``exponential``)  or  d^(−``exponent``) (``power``),

    both 1 at d = 1, the loss is Σ g_s(d_i)·CE_i / Σ g_s(d_i) over the masked tokens of the global
    batch, with g_s = (1 − a_s)·g + a_s: a goes from ``start`` to ``final``, and at 1 the weight
    is ``flat``. The density of t is not divided out. g is at least 1e-9. Ours, after the
    locality bias of arXiv 2605.13026: what predicts a token stands near it. A position that is
    never masked counts as visible, padding too, and so does one of another document.
    """

    decay: Literal["exponential", "power"] = option("exponential", doc="the family of g")
    scale: float = option(4.0, gt=0, doc="exponential: tokens over which g falls by a factor e")
    exponent: float = option(1.0, gt=0, le=10, doc="power: how fast g falls")
    start: float = option(0.0, ge=0, le=1, doc="a at first: 0 is g, 1 no weight")
    final: float = option(1.0, ge=0, le=1, doc="a when the change is complete")
    anneal: Annealing = option(factory=Annealing, doc="when start turns into final")
    normalizer: Normalizer = option("weights", doc=NORMALIZER_DOC)

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A change that the run cannot make."""
        if self.start != self.final:
            yield from self.anneal.problems(recipe)

    def build(self, facts: RunFacts) -> LiveLocality:
        """The weighting in a run of known length."""
        course = self.anneal.course(self.start, self.final, facts)
        return LiveLocality(options=self, level=course)


@frozen(kw_only=True, eq=False)
class LiveLocality:
    """`Locality` with a_s at each step."""

    options: Locality
    level: Callable[[int], float]

    @property
    def normalizer(self) -> Normalizer:
        """What the weighted sum is divided by."""
        return self.options.normalizer

    def weight(self, *, mask: Tensor, step: int, **_: Any) -> Tensor:
        """``[B, L]`` float64, see `Locality`; at visible positions it means nothing."""
        distance = distance_to_visible(mask).double().clamp(min=1)
        decays = {
            "exponential": lambda: torch.exp(-(distance - 1) / self.options.scale),
            "power": lambda: distance.pow(-self.options.exponent),
        }
        a = self.level(step)
        return (1 - a) * decays[self.options.decay]().clamp(min=FLOOR) + a


def distance_to_visible(mask: Tensor) -> Tensor:
    """How many positions away the nearest unmasked one is, on either side.

    Args:
        mask: ``[B, L]`` bool, True where masked.

    Returns:
        ``[B, L]`` int64: 0 where not masked, L in a row without an unmasked position.

    >>> distance_to_visible(torch.tensor([[True, True, False, True, True, True]])).tolist()
    [[2, 1, 0, 1, 2, 3]]
    """
    return torch.minimum(_since_visible(mask), _since_visible(mask.flip(-1)).flip(-1))


def _since_visible(mask: Tensor) -> Tensor:
    """Positions since the last unmasked one, to the left; L where there is none."""
    length = mask.shape[-1]
    places = torch.arange(length, device=mask.device)
    last = torch.where(mask, -length, places).cummax(-1).values
    return (places - last).clamp(max=length)
