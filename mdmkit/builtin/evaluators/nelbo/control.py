"""A control variate: what the masked tokens' neighbours let one expect of their cross-entropies.

Given that token i is masked, let f_i(S) be numbers that depend on the text, on the share of masked
tokens k/n, and on whether its two neighbours are visible under the mask S. Over a uniform subset S
of size k the chance that a neighbour is masked, too, is q = (k − 1)/(n − 1), that both are
q₂ = (k − 1)(k − 2)/((n − 1)(n − 2)); over k uniform on 1..n these are 1/2 and 1/3 on average. So
the expectation of (n/k)·Σ_{i∈S} f_i(S) is known exactly, and whatever multiple θ of the
difference is subtracted from an estimate, it stays unbiased, as long as θ does not depend on its
mask: θ is fitted on the other half of the blocks (cross-fitting).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.values import Batch

FEATURES = 12
"""F: constant, k/n, (k/n)², which neighbours are visible, and the costs given those that are."""

PRIOR = torch.tensor([0.0] * 6 + [0.8, 0.8, 0.8, -0.8, 0.8, 0.8], dtype=torch.float64)
"""θ before anything is measured: a token costs what its visible neighbours' counts say (given both,
log p(token | left, right) is about log p(token | left) + log p(token | right) − log p(token)), a
little less, since a network knows more."""

PRIOR_DRAWS = 2.0
"""So many draws the prior is worth: with few blocks it matters, with many it does not."""


@frozen(kw_only=True, eq=False)
class Neighbours:
    """Of each position's neighbours: which are always visible, and which may be masked.

    Attributes:
        shown_left, shown_right: ``[B, L]`` bool, there is one and it is never masked.
        open_left, open_right: ``[B, L]`` bool, there is one and it may be masked.
    """

    shown_left: Tensor
    shown_right: Tensor
    open_left: Tensor
    open_right: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Neighbours:
        """Those of a batch; padding is no neighbour."""
        scored = batch.scored()
        real = scored | (torch.ones_like(scored) if batch.real is None else batch.real)
        shown, opened = real & ~scored, scored
        return cls(
            shown_left=_from_left(shown),
            shown_right=_from_right(shown),
            open_left=_from_left(opened),
            open_right=_from_right(opened),
        )

    def under(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether the left one, the right one, and both are visible: ``[B, L]`` float64 each."""
        left = (self.shown_left | (self.open_left & ~_from_left(mask))).double()
        right = (self.shown_right | (self.open_right & ~_from_right(mask))).double()
        return left, right, left * right

    def on_average(self) -> tuple[Tensor, Tensor, Tensor]:
        """The chances of that at a masked token, k being uniform on 1..n."""
        left = self.shown_left.double() + self.open_left / 2
        right = self.shown_right.double() + self.open_right / 2
        # both may be masked: 1 − 2·(1/2) + 1/3
        both = left * right + (self.open_left & self.open_right) * (1 / 3 - 1 / 4)
        return left, right, both


def features(
    visible: tuple[Tensor, Tensor, Tensor], rate: Tensor, square: Tensor, costs: Tensor
) -> Tensor:
    """The numbers f_i, or their expectations: they are linear in all that is random.

    Args:
        visible: whether the left, the right, both neighbours are: ``[B, L]`` each.
        rate: k/n, ``[B]``.
        square: (k/n)², ``[B]``.
        costs: ``[B, L, 3]``, of `mdmkit.builtin.evaluators.nelbo.neighbours`.

    Returns:
        ``[B, L, F]`` float64.
    """
    left, right, both = visible
    alone, after, before = costs.unbind(-1)
    return torch.stack(
        [
            torch.ones_like(alone),
            rate[:, None].expand_as(alone),
            square[:, None].expand_as(alone),
            left,
            right,
            both,
            (1 - left - right + both) * alone,
            (left - both) * after,
            (right - both) * before,
            both * alone,
            both * after,
            both * before,
        ],
        -1,
    )


@frozen(kw_only=True, eq=False)
class Controls:
    """The control variates of some pairs, and what their multiples are fitted from.

    Attributes:
        differences: ``[B, F]``, their value minus their expectation.
        gram: ``[2, F + 1, F + 1]``, by the half that the block is in: sums of the products of
            features and cross-entropy over masked tokens, each weighted by the square of what it
            counts in the estimate.
    """

    differences: Tensor
    gram: Tensor


def controls(
    batch: Batch, costs: Tensor, mask: Tensor, nll: Tensor, factor: Tensor, half: Tensor
) -> Controls:
    """The controls of a batch of draws.

    Args:
        batch: its text.
        costs: ``[B, L, 3]``.
        mask: ``[B, L]`` bool, a uniform subset of the scored tokens given its size.
        nll: ``[B, L]`` the masked cross-entropies.
        factor: ``[B]``, what a masked token counts: the estimate is factor·Σ nll, and its
            expectation that of (n/k)·Σ nll over k uniform on 1..n. 0 for rows that fill up.
        half: ``[B]`` int64, 0 or 1: the half that the row's block is in.
    """
    scored = batch.scored()
    n, k = scored.sum(-1).double(), mask.sum(-1).double()
    n = n.clamp(min=1)
    around = Neighbours.of(batch)
    found = features(around.under(mask), k / n, (k / n) ** 2, costs)
    expected = features(
        around.on_average(), (n + 1) / (2 * n), (n + 1) * (2 * n + 1) / (6 * n**2), costs
    )
    there = mask.double()[..., None]
    sums = factor[:, None] * (found * there).sum(1)
    counts = (factor != 0).double()[:, None]
    differences = sums - counts * (expected * scored.double()[..., None]).sum(1)
    rows = torch.cat([found, nll[..., None]], -1) * there * factor[:, None, None]
    gram = torch.stack([(part := rows[half == which].flatten(0, 1)).T @ part for which in (0, 1)])
    return Controls(differences=differences, gram=gram)


def fitted(
    gram: Tensor, draws: Tensor, *, prior: Tensor = PRIOR, worth: float = PRIOR_DRAWS
) -> Tensor:
    """θ of each half, by weighted least squares on the *other* half, drawn towards the prior.

    Args:
        gram: ``[2, F + 1, F + 1]``, summed over all pairs.
        draws: ``[2]``, how many are behind it.
        prior: ``[F]`` float64.
        worth: in draws, of the prior.

    Returns:
        ``[2, F]`` float64; the prior where the other half has nothing.
    """
    found = prior.repeat(2, 1)
    for half in (0, 1):
        products, target = gram[1 - half, :-1, :-1], gram[1 - half, :-1, -1]
        if not draws[1 - half] > 0:
            continue
        # what never varies (the mask rate where a block has one token) would be singular without
        floor = 1e-9 * products.diagonal().max()
        ridge = products.diagonal() * (worth / draws[1 - half]) + floor
        found[half] = torch.linalg.solve(products + torch.diag(ridge), target + ridge * prior)
    return found


def _from_left(flags: Tensor) -> Tensor:
    """What the left neighbour is; False where there is none."""
    return torch.cat([torch.zeros_like(flags[:, :1]), flags[:, :-1]], -1)


def _from_right(flags: Tensor) -> Tensor:
    return torch.cat([flags[:, 1:], torch.zeros_like(flags[:, :1])], -1)
