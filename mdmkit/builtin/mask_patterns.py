"""Which positions are masked, given how many should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import uniform_subset
from mdmkit.hookspecs import hookimpl
from mdmkit.options import option
from mdmkit.protocols import CountLaw


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


@hookimpl
def mdmkit_mask_patterns() -> Mapping[str, type]:
    """The mask patterns of this module."""
    return {"independent": Independent, "exact_count": ExactCount}
