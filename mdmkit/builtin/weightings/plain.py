"""The weights of the NELBO, of standard training, and none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import nelbo_weight
from mdmkit.options import option
from mdmkit.protocols import Normalizer

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

NORMALIZER_DOC = "what the weighted sum is divided by: tokens, masked, weights or sequence"


@frozen(kw_only=True)
class Elbo:
    """The weight that makes the loss an unbiased NELBO, whatever density t is drawn from.

    ``estimator`` says how (n maskable tokens, k masked ones, q the density of t):

    * ``time``: −alpha'_t/(1 − alpha_t)/q(t) (MDLM, arXiv 2406.07524, eq. 10; with the linear
      schedule 1/(t·q)), for independent masks.
    * ``rao_blackwell``: −alpha'_t/q(t)·(n + 1)/k, the expectation of the former given k under
      uniform mask ratios, for independent masks: less variance.
    * ``count``: −alpha'_t/q(t)·n/k, for ``exact_count`` masks rounded up: the any-order
      autoregressive loss.

    A schedule that stops short of its ends (``linear`` with ε > 0) truncates the bound.
    """

    estimator: Literal["time", "rao_blackwell", "count"] = option(
        "time", doc="which unbiased weight: time, rao_blackwell (both independent masks) or count"
    )
    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def check(self, recipe: Recipe) -> Iterator[str]:
        """Say where the recipe's mask pattern makes the estimator biased."""
        law = getattr(recipe.mask_pattern, "count_law", None)
        if law is None:  # a pattern that is built from facts of the run cannot be asked yet
            return
        wanted = "ceiling" if self.estimator == "count" else "binomial"
        if law != wanted:
            yield (
                f'estimator: "{self.estimator}" is unbiased for masks whose count '
                f'is {wanted}, but the mask pattern says {law}; use "time" or "rao_blackwell" '
                'with independent masks, "count" with exact_count and rounding = "up"'
            )

    def weight(
        self,
        *,
        alpha_t: Tensor,
        dalpha_t: Tensor,
        density: Tensor,
        mask_count: Tensor,
        token_count: Tensor,
        **_: Any,
    ) -> Tensor:
        """``[B]`` float64, see the class."""
        some = mask_count.clamp(min=1)
        weights = {
            "time": nelbo_weight(alpha_t, dalpha_t),
            "rao_blackwell": -dalpha_t * (token_count + 1) / some,
            "count": -dalpha_t * token_count / some,
        }
        return weights[self.estimator] / density


@frozen(kw_only=True)
class InverseT:
    """−alpha'_t/(1 − alpha_t), with the linear schedule 1/t, *not* divided by the density.

    With uniform t this is standard training, the NELBO. With another density q it minimises
    ∫ q(t)·h(t) dt instead.
    """

    normalizer: Normalizer = option("tokens", doc=NORMALIZER_DOC)

    def weight(self, *, alpha_t: Tensor, dalpha_t: Tensor, **_: Any) -> Tensor:
        """``[B]`` float64, see the class."""
        return nelbo_weight(alpha_t, dalpha_t)


@frozen(kw_only=True)
class Flat:
    """No weight: every masked token counts the same (arXiv 2605.13026 drops the 1/t)."""

    normalizer: Normalizer = option("masked", doc=NORMALIZER_DOC)

    def weight(self, *, t: Tensor, **_: Any) -> Tensor:
        """``[B]`` ones."""
        return torch.ones_like(t)
