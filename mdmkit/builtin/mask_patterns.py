"""Which positions are masked, given how many should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.annealing import Annealing
from mdmkit.diffusion import golden_sequence, uniform_subset
from mdmkit.hookspecs import hookimpl
from mdmkit.options import option
from mdmkit.protocols import CountLaw, RunFacts

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Independent:
    """Each position is masked on its own with probability 1 − alpha_t: the forward process."""

    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = True
    count_law: ClassVar[CountLaw] = "binomial"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate that was asked for, ``[B]``."""
        return rate

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        """Mask where the noise is below the rate: ``[B, L]`` bool."""
        return (noise < rate[:, None]) & maskable


@frozen(kw_only=True)
class ExactCount:
    """A uniformly chosen subset of a fixed size: of n maskable tokens, about rate·n.

    ``rounding = "random"``: rate·n is rounded up or down at random, so that the marginal rate is
    exact; the mask may be empty. ``"up"``: ⌈rate·n⌉, at least one; with uniform t and the linear
    schedule the count is then uniform on 1..n, as in the any-order autoregressive loss
    (arXiv 2110.02037), whose weight is ``elbo`` with ``estimator = "count"``.
    """

    rounding: Literal["random", "up"] = option("random", doc="how rate·n becomes a whole number")
    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = True

    @property
    def count_law(self) -> CountLaw:
        """How the number of masked tokens follows from the rate."""
        return "ceiling" if self.rounding == "up" else "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate asked for; rounding up, the next whole share of the row: ``[B]``."""
        return (rate * size).ceil() / size.clamp(min=1) if self.rounding == "up" else rate

    def mask(
        self, *, rate: Tensor, noise: Tensor, row_noise: Tensor, maskable: Tensor, **_: Any
    ) -> Tensor:
        """Mask a uniform subset: ``[B, L]`` bool."""
        wanted = rate.double() * maskable.sum(-1)
        count = wanted.ceil() if self.rounding == "up" else (wanted + row_noise).floor()
        return uniform_subset(noise, count.long(), maskable)


@frozen(kw_only=True)
class BlueNoise:
    """Masks spread evenly along the row, so that a high mask rate keeps near context.

    A blue row masks position i where frac(u + i·φ) < r, with φ = (√5 − 1)/2 and u one uniform
    number of the row: marginally each position with probability r, but no masked run is longer
    than F_(k+2) − 1, where k >= 1 is the least with φ^k < 1 − r and F the Fibonacci numbers
    (the three-distance theorem, with φ's fractions): 2 at r = 1/2, 12 at r = 0.9. Few contexts
    occur in such rows, so only a share of the rows is blue, the others being independent; the
    share goes from ``share`` to ``final_share``. The pattern for masks of text is ours.
    """

    share: float = option(0.5, ge=0, le=1, doc="share of the rows that are blue, at the start")
    final_share: float | None = option(
        None, ge=0, le=1, doc="the same when the change is complete; unset: share, no change"
    )
    anneal: Annealing = option(factory=Annealing, doc="when share turns into final_share")
    group: ClassVar[int] = 1

    @property
    def shares(self) -> tuple[float, float]:
        """The share of blue rows at the start and at the end."""
        return self.share, self.share if self.final_share is None else self.final_share

    @property
    def every_context(self) -> bool:
        """Whether some rows are independent at every step."""
        return max(self.shares) < 1

    @property
    def count_law(self) -> CountLaw:
        """A blue row masks ⌊rL⌋ tokens give or take few: not binomial."""
        return "binomial" if max(self.shares) == 0 else "other"

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A change that the run cannot make."""
        if len(set(self.shares)) > 1:
            yield from self.anneal.problems(recipe)

    def build(self, facts: RunFacts) -> LiveBlueNoise:
        """The pattern with its share at each step."""
        return LiveBlueNoise(options=self, share=self.anneal.course(*self.shares, facts))


@frozen(kw_only=True)
class LiveBlueNoise:
    """`BlueNoise` in a run of known length."""

    options: BlueNoise
    share: Callable[[int], float]
    group: ClassVar[int] = 1

    @property
    def every_context(self) -> bool:
        """Whether some rows are independent at every step."""
        return self.options.every_context

    @property
    def count_law(self) -> CountLaw:
        """See `BlueNoise`."""
        return self.options.count_law

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate that was asked for, ``[B]``, by blue and by independent rows."""
        return rate

    def mask(
        self,
        *,
        rate: Tensor,
        noise: Tensor,
        row_noise: Tensor,
        maskable: Tensor,
        step: int,
        **_: Any,
    ) -> Tensor:
        """Blue or independent masks, as the row's number says: ``[B, L]`` bool."""
        blue = row_noise < self.share(step)
        even = golden_sequence(noise[:, :1], torch.arange(noise.shape[-1], device=noise.device))
        return (torch.where(blue[:, None], even, noise) < rate[:, None]) & maskable


@frozen(kw_only=True)
class Complementary:
    """Pairs of rows of one sequence: the twin masks exactly what the first left visible.

    The first masks each position on its own with probability r, the twin with 1 − r, so every
    token is predicted once in a pair (LaViDa, arXiv 2505.16839; Fast-dLLM v2, arXiv 2509.26328).
    Each row is weighted at its own mask rate, with which ``elbo`` stays unbiased if the schedule
    runs from 1 to 0; where it stops short at the masked end by more than a trace, the twin's rates
    lie in part where the schedule has no time.
    """

    group: ClassVar[int] = 2
    every_context: ClassVar[bool] = True
    count_law: ClassVar[CountLaw] = "binomial"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate that was asked for, and what is left of 1 for the twin: ``[B]``."""
        return torch.where(member == 1, 1 - rate, rate)

    def mask(
        self, *, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor, **_: Any
    ) -> Tensor:
        """Mask where the noise is below the rate, the twin where it is not: ``[B, L]`` bool."""
        return ((noise < rate[:, None]) ^ (member == 1)[:, None]) & maskable


@frozen(kw_only=True)
class Mirrored:
    """Pairs of rows of one sequence: masked where U < r, the twin where U > 1 − r.

    Both mask each position on its own with probability r; together they mask as different
    positions as they can (MIRROR, arXiv 2511.18159). U is a multiple of 2^-24 below 1, so the
    twin looks at 1 − 2^-24 − U, which has exactly the law of U.
    """

    group: ClassVar[int] = 2
    every_context: ClassVar[bool] = True
    count_law: ClassVar[CountLaw] = "binomial"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate that was asked for, ``[B]``, by both."""
        return rate

    def mask(
        self, *, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor, **_: Any
    ) -> Tensor:
        """Mask where the noise, or its mirror image, is below the rate: ``[B, L]`` bool."""
        mirrored = (1 - 2.0**-24) - noise.double()
        return (torch.where((member == 1)[:, None], mirrored, noise) < rate[:, None]) & maskable


@frozen(kw_only=True)
class Clustered:
    """Masks in runs, the opposite of ``blue_noise``: a stationary two-state Markov chain.

    Along the row each position copies the state before it with probability ρ = 1 − 2/m and is
    drawn anew, masked with probability r, otherwise. Each position is masked with probability
    r, two at a distance d have the correlation ρ^d, and masked runs have a mean length of
    m/(2·(1 − r)): m at rate 1/2, and at every rate m/2 times that of independent masks. Ours.
    """

    mean_run: float = option(
        8.0, ge=2, doc="m, tokens: mean masked run at rate 1/2; 2 is that of independent masks"
    )
    group: ClassVar[int] = 1
    every_context: ClassVar[bool] = True
    count_law: ClassVar[CountLaw] = "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:  # noqa: ARG002
        """The rate that was asked for, ``[B]``."""
        return rate

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        """The states of the chain that the noise decides: ``[B, L]`` bool.

        Where the noise is below (1 − ρ)·r the state is masked, where it is above that and ρ it is
        visible, in between it is copied: so it is that of the last position not in between.
        """
        masked_below = 2 / self.mean_run * rate[:, None]  # (1 − ρ)·r
        state = noise < masked_below
        drawn = state | (noise >= masked_below + (1 - 2 / self.mean_run))
        state[:, 0] = noise[:, 0] < rate  # the first is always drawn, with all of its noise
        drawn[:, 0] = True
        places = torch.arange(noise.shape[-1], device=noise.device)
        last_drawn = torch.where(drawn, places, 0).cummax(-1).values
        return state.gather(-1, last_drawn) & maskable


@hookimpl
def mdmkit_mask_patterns() -> Mapping[str, type]:
    """The mask patterns of this module."""
    return {
        "independent": Independent,
        "exact_count": ExactCount,
        "complementary": Complementary,
        "mirrored": Mirrored,
        "blue_noise": BlueNoise,
        "clustered": Clustered,
    }
