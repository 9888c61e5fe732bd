"""What time samplers share that learn, during training, how the cross-entropy depends on t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from mdmkit.diffusion import GridDensity
from mdmkit.protocols import Density

_CELLS = 1024  # of the densities: far more than bins, so that they are smooth
_FORGOTTEN = 1e-6  # of a row: a bin that has less left of its rows knows nothing any more


class OnlineSums:
    """Sums over the rows that were observed, by equal bins of t; what is old fades.

    Every step multiplies the sums by 1 − 1/memory, so that about the last `memory` steps count.
    They are a function of the global batches alone: every rank has the same.
    """

    def __init__(self, *, bins: int, memory: float, columns: int) -> None:
        """Start with nothing: ``values [bins, columns]`` float64 zeros."""
        self.values = torch.zeros(bins, columns, dtype=torch.float64)
        self._kept = 1 - 1 / memory

    def add(self, t: Tensor, columns: Tensor) -> None:
        """Add a step.

        Args:
            t: ``[G]`` times. Rows with a time outside (0, 1] have none, and are left out.
            columns: ``[G, columns]`` what to sum. A row in which anything is not finite is left
                out: one bad loss would spoil all sums for good.
        """
        bins = len(self.values)
        usable = (t > 0) & (t <= 1) & columns.isfinite().all(-1)
        cell = (t[usable] * bins).long().clamp(max=bins - 1)
        self.values.mul_(self._kept).index_add_(0, cell, columns[usable].double())


class OnlineDensity(ABC):
    """A live time sampler whose density follows an `OnlineSums`.

    It is a fixed density during the warm-up, and for as long as there is nothing to go by. Then
    q = (1 − floor)·shape/∫shape + floor, on a fine grid.
    """

    def __init__(self, sums: OnlineSums, *, before: Density, warmup: int, floor: float) -> None:
        """Begin with `before` for `warmup` steps."""
        self.sums = sums
        self._before, self._warmup, self._floor = before, warmup, floor
        self._density: Density | None = None  # of the present sums, once it is asked for

    @abstractmethod
    def _shape(self, t: Tensor) -> Tensor | None:
        """The density but for its scale, ``[B] -> [B]``; None where too little is known."""

    @abstractmethod
    def _columns(self, t: Tensor, nll: Tensor, count: Tensor) -> Tensor:
        """What is summed, ``[G, columns]``."""

    def at(self, step: int) -> Density:
        """The density for optimizer step `step`."""
        if step < self._warmup:
            return self._before
        if self._density is None:
            self._density = self._estimate()
        return self._density

    def _estimate(self) -> Density:
        shape = self._shape((torch.arange(_CELLS, dtype=torch.float64) + 0.5) / _CELLS)
        if shape is None:
            return self._before
        return GridDensity((1 - self._floor) * shape / shape.mean() + self._floor)

    def observe(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        """Learn from the rows of one global batch, ``[G]`` each."""
        self.sums.add(t, self._columns(t, nll, count))
        self._density = None

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {"sums": self.sums.values.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the sums of a `state_dict`."""
        self.sums.values.copy_(state["sums"])
        self._density = None


def mean_of(sums: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
    """Means by bin, of the bins that know one.

    Args:
        sums: ``[bins, N]`` sums of N quantities.
        over: ``[bins]`` the weights that they were summed with.

    Returns:
        ``[K, N]`` means and ``[K]`` weights, of the K bins whose weight is not forgotten.
    """
    known = over > _FORGOTTEN
    return sums[known] / over[known, None], over[known]


def interpolate(t: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (place, value), constant outside: ``[B] -> [B]``.

    Args:
        t: ``[B]`` where.
        places: ``[K]`` increasing, K ≥ 1.
        values: ``[K]`` the values there.
    """
    right = torch.searchsorted(places.contiguous(), t).clamp(1, max(len(places) - 1, 1))
    left, right = right - 1, right.clamp(max=len(places) - 1)
    width = (places[right] - places[left]).clamp(min=torch.finfo(t.dtype).tiny)
    share = ((t - places[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])


def isotonic(values: Tensor, weights: Tensor) -> Tensor:
    """The increasing sequence that is nearest to `values` in weighted squares, ``[K] -> [K]``.

    Pool adjacent violators: neighbours in the wrong order are replaced by their weighted mean
    until none are left (Barlow et al., "Statistical inference under order restrictions", 1972).
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, size = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, its_weight, its_size = pools.pop()
            mean = (mean * total + before * its_weight) / (total + its_weight)
            total, size = total + its_weight, size + its_size
        pools.append((mean, total, size))
    pooled = [mean for mean, _, size in pools for _ in range(size)]
    return torch.tensor(pooled, dtype=values.dtype)
