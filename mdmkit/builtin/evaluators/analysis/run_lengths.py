"""How far a masked token is from visible ones: counted in masks, and known for independent ones.

A *shape* is the share of masked tokens for which something is beyond r, for r = 0, 1, …: 1 at
r = 0 and never rising.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

SHAPES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "left": lambda rate, r: rate**r,
    "right": lambda rate, r: rate**r,
    "either": lambda rate, r: rate ** (2 * r),
    # the sum over l > r of the size-biased law l·rate^(l - 1)·(1 - rate)^2
    "run": lambda rate, r: rate**r * (1 + r * (1 - rate)),
}
"""Of independent masks away from the edges, given the mask rate: the nearest visible token on the
left, on the right, on either side is farther than r; the run of masks is longer than r tokens."""


def known_shape(name: str, rates: Tensor, weights: Tensor, reach: int) -> Tensor:
    """The shape of independent masks whose rates are spread in some way.

    Args:
        name: of `SHAPES`.
        rates: ``[N]`` float64 in (0, 1), such as the midpoints of their distribution.
        weights: ``[N]`` what a masked token counts at each, times how many there are: the rate
            itself where all masked tokens count the same.
        reach: the last r.

    Returns:
        ``[reach + 1]`` float64.
    """
    r = torch.arange(reach + 1, dtype=torch.float64)
    beyond = SHAPES[name](rates[:, None], r)  # [N, R]
    return (weights[:, None] * beyond).sum(0) / weights.sum()


def counted_shapes(mask: Tensor, weights: Tensor, reach: int) -> dict[str, Tensor]:
    """How much weight is beyond r, in masks.

    Looked at are masked tokens with at least `reach` tokens on both sides, so that edges do not
    matter: nobody there could see farther than the row.

    Args:
        mask: ``[B, L]`` bool.
        weights: ``[B, L]`` float64, of each masked token.
        reach: the last r, less than half of L.

    Returns:
        By name of `SHAPES`, ``[reach + 1]`` float64; the first entry is all of the weight.
    """
    length = mask.shape[1]
    middle = slice(reach, length - reach)
    left = _nearest_before(~mask, reach)[:, middle]
    right = _nearest_before(~mask.flip(1), reach).flip(1)[:, middle]
    found = {
        "left": left,
        "right": right,
        "either": torch.minimum(left, right),
        "run": (left + right - 1).clamp(max=reach + 1),
    }
    there, counted = mask[:, middle], weights[:, middle]
    return {
        name: torch.bincount(
            distance[there], weights=counted[there], minlength=reach + 2
        ).flip(0).cumsum(0).flip(0)[1:]
        for name, distance in found.items()
    }  # fmt: skip


def _nearest_before(visible: Tensor, reach: int) -> Tensor:
    """The distance of each position from the nearest visible one before it, reach + 1 at most."""
    places = torch.arange(visible.shape[1]).expand_as(visible)
    last = places.masked_fill(~visible, -reach - 2).cummax(1).values
    before = torch.cat([torch.full_like(last[:, :1], -reach - 2), last[:, :-1]], 1)
    return (places - before).clamp(max=reach + 1)
