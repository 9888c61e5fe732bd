"""Mutual information of two symbols from counts of their pairs, and how sure it is."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

SURE = 2.0
"""So many standard errors above 0 an estimate counts as positive."""


def symbols(tokens: Tensor, real: Tensor, types: int) -> tuple[Tensor, int, float]:
    """Tokens as symbols: the most frequent types by frequency, all others as one.

    Args:
        tokens: ``[N, L]`` int64.
        real: ``[N, L]`` bool; what is not is counted as nothing.
        types: how many types stay by themselves; of equally frequent ones those with lower ids.

    Returns:
        ``[N, L]`` int64, how many symbols there are, and the share of the tokens that keep a
        symbol of their own.
    """
    counts = torch.bincount(tokens[real])
    frequent = counts.argsort(descending=True, stable=True)[:types]
    frequent = frequent[counts[frequent] > 0]
    table = torch.full_like(counts, len(frequent))
    table[frequent] = torch.arange(len(frequent))
    pooled = len(frequent) < int((counts > 0).sum())
    known = tokens.clamp(max=len(counts) - 1)  # an id beyond is never real
    share = float(counts[frequent].sum() / counts.sum())
    return table[known], len(frequent) + int(pooled), share


def pair_counts(text: Tensor, groups: Tensor, kinds: int, distance: int, within: Tensor) -> Tensor:
    """How often each pair of symbols stands at a distance.

    Args:
        text: ``[N, L]`` int64 in [0, K).
        groups: ``[N]`` int64 in [0, G), of each row.
        kinds: K.
        distance: d >= 1.
        within: ``[N, L]`` int64: two tokens make a pair where these numbers are equal and >= 0.

    Returns:
        ``[G, K, K]`` float64: the earlier symbol, the later one.
    """
    first, second, there = paired(text, within, distance)
    codes = (groups[:, None] * kinds + first) * kinds + second
    count = int(groups.max()) + 1
    found = torch.bincount(codes[there], minlength=count * kinds**2)
    return found.view(count, kinds, kinds).double()


def paired(text: Tensor, within: Tensor, distance: int) -> tuple[Tensor, Tensor, Tensor]:
    """What stands at a distance from each other, and where it makes a pair: ``[N, L - d]`` each.

    Args:
        text, within, distance: as for `pair_counts`.
    """
    first, second = slice(None, -distance), slice(distance, None)
    there = (within[:, first] == within[:, second]) & (within[:, first] >= 0)
    return text[:, first], text[:, second], there


def mutual_information(counts: Tensor) -> Tensor:
    """The plug-in estimate in nats: ``[..., K, K] -> [...]``; 0 of no counts at all."""
    p = counts / counts.sum((-2, -1), keepdim=True).clamp(min=1)

    def entropy(chances: Tensor) -> Tensor:
        return -torch.xlogy(chances, chances).sum(-1)

    return entropy(p.sum(-1)) + entropy(p.sum(-2)) - entropy(p.flatten(-2))


@frozen(kw_only=True, eq=False)
class Jackknife:
    """A number from all of the data, and from all but each of G groups of about one size.

    Attributes:
        whole: ``[...]`` float64.
        without: ``[G, ...]`` float64.
    """

    whole: Tensor
    without: Tensor

    @classmethod
    def information(cls, counts: Tensor) -> Jackknife:
        """The mutual information of ``counts [G, K, K]``."""
        total = counts.sum(0)
        return cls(
            whole=mutual_information(total),
            without=mutual_information((total - counts).clamp(min=0)),
        )

    @property
    def stderr(self) -> Tensor:
        """The delete-a-group standard error, of the shape of `whole` (Tukey 1958)."""
        groups = len(self.without)
        spread = (self.without - self.without.mean(0)).square().sum(0)
        return (spread * (groups - 1) / groups).sqrt()


def contiguous_groups(units: Tensor, count: int) -> Tensor:
    """Groups of neighbouring units, with about as many rows each.

    Args:
        units: ``[N]`` int64, the unit of each row, from 0 on; none is divided.
        count: of groups, at most.

    Returns:
        ``[N]`` int64, from 0 on.
    """
    sizes = torch.bincount(units)
    begins = sizes.cumsum(0) - sizes
    group = begins * count // len(units)
    number: Tensor = torch.unique(group, return_inverse=True)[1]
    return number[units]


def slope(distances: Tensor, values: Tensor) -> Tensor:
    """The exponent of a power law, by least squares of log on log.

    Args:
        distances: ``[D]`` float64, positive.
        values: ``[..., D]`` float64, positive.

    Returns:
        ``[...]``.
    """
    x = distances.log() - distances.log().mean()
    return (values.log() * x).sum(-1) / x.square().sum()
