"""Falling curves: the isotonic fit, where it first crosses a level, and where its plateau is.

Every function takes many curves at once, ``[R, K]`` (R replicates or runs, K points), in float64.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interpolation = Literal["linear", "log"]

INITIAL_FALL = 0.2
"""Nats that a curve must have fallen from its first point before a plateau can begin."""
LEAST_BULGE = 0.05
"""Nats that a plateau's shoulder must stand above the convex hull of the curve."""
ROUNDING = 1e-9
"""Nats within which a level counts as reached: equal points get fits that differ in a digit."""


def falling(curves: Floats) -> Floats:
    """The least-squares fit among curves that never rise: isotonic regression, equal weights.

    By the min-max formula (Barlow et al., Statistical Inference under Order Restrictions, 1972):
    fit_i = min over j <= i of max over k >= i of mean(y_j … y_k).

    Args:
        curves: ``[R, K]``.

    Returns:
        ``[R, K]``, not rising along K.

    >>> falling(np.array([[3.0, 1.0, 2.0, 0.0]])).tolist()
    [[3.0, 1.5, 1.5, 0.0]]
    """
    points = curves.shape[-1]
    sums = np.concatenate([np.zeros_like(curves[:, :1]), curves.cumsum(-1)], axis=-1)
    fit = np.full_like(curves, np.inf)
    for j in range(points):
        means = (sums[:, j + 1 :] - sums[:, j : j + 1]) / np.arange(1, points - j + 1)
        highest = np.maximum.accumulate(means[:, ::-1], axis=-1)[:, ::-1]  # over k >= i
        fit[:, j:] = np.minimum(fit[:, j:], highest)
    # Rounding can leave a rise of the last digit inside a pooled stretch.
    return np.minimum.accumulate(fit, axis=-1)


@frozen(kw_only=True, eq=False)
class Crossing:
    """Where falling curves first meet a level.

    Attributes:
        at: ``[R]``, a place along K: the whole part is a point, the rest the way to the next one.
            NaN where the curve stays above the level, or begins below it.
        reached: ``[R]`` bool, whether the curve comes down to the level at all.
        from_start: ``[R]`` bool, whether it is below it at its first point already.
    """

    at: Floats
    reached: NDArray[np.bool_]
    from_start: NDArray[np.bool_]


def first_crossing(curves: Floats, levels: Floats) -> Crossing:
    """The first place where each curve is at or below its level; between points it is a line.

    Args:
        curves: ``[R, K]``, not rising.
        levels: ``[R]``.
    """
    above = curves - levels[:, None]
    below = above <= ROUNDING
    reached = np.asarray(below.any(-1))
    after = np.maximum(below.argmax(-1), 1)  # the point at or below the level
    rows = np.arange(len(curves))
    high, low = above[rows, after - 1], above[rows, np.minimum(after, curves.shape[1] - 1)]
    inside = reached & (above[:, 0] > ROUNDING)
    share = np.minimum(high / np.where(inside, high - low, 1.0), 1.0)
    at = np.where(inside, after - 1 + share, np.nan)
    return Crossing(
        at=np.where(np.abs(above[:, 0]) <= ROUNDING, 0.0, at),
        reached=reached,
        from_start=above[:, 0] < -ROUNDING,
    )


def value_at(values: Floats, at: Floats, how: Interpolation = "linear") -> Floats:
    """Values between points.

    Args:
        values: ``[R, K]`` or ``[K]``, rising along K; positive for ``log``.
        at: ``[R]``, places as `first_crossing` gives them; NaN stays NaN.
        how: ``linear`` in the values, or ``log``: linear in their logarithms.
    """
    table = np.broadcast_to(values, (len(at), values.shape[-1]))
    known = np.where(np.isnan(at), 0.0, at)
    before = np.minimum(np.floor(known).astype(int), table.shape[1] - 2)
    rows, share = np.arange(len(at)), known - before
    low, high = table[rows, before], table[rows, before + 1]
    if how == "log":
        between = np.exp((1 - share) * np.log(low) + share * np.log(high))
    else:
        between = low + share * (high - low)
    return np.where(np.isnan(at), np.nan, between)


@frozen(kw_only=True)
class Plateau:
    """Where a curve stays after its initial fall.

    Attributes:
        start, end: its first and last step; the level is read in the middle.
    """

    start: float
    end: float

    def level(self, steps: Floats, curves: Floats) -> Floats:
        """The curves' value in the middle of the plateau: ``[R, K] -> [R]``."""
        middle = np.interp((self.start + self.end) / 2, steps, np.arange(len(steps)))
        return value_at(curves, np.full(len(curves), middle))


def find_plateau(steps: Floats, curve: Floats) -> Plateau | None:
    """The plateau of one falling curve, or None where it has none, or has not left it.

    A curve of diminishing returns is convex. One that stays at a level and then falls again is
    not: its shoulder stands above its lower convex hull. The plateau reaches from the corner of
    the hull before the shoulder to the shoulder, the point furthest above the hull. What comes
    before the curve has fallen by `INITIAL_FALL` (a warm-up, say) does not count, and a shoulder
    lower than `LEAST_BULGE` is none.

    Args:
        steps: ``[K]``, rising.
        curve: ``[K]``, not rising.
    """
    fallen = np.flatnonzero(curve <= curve[0] - INITIAL_FALL)
    if len(fallen) < 3:
        return None
    x, y = steps[fallen], curve[fallen]
    corners = _lower_hull(x, y)
    bulge = y - np.interp(x, x[corners], y[corners])
    shoulder = int(bulge.argmax())
    if bulge[shoulder] < LEAST_BULGE:
        return None
    start = max(corner for corner in corners if corner < shoulder)
    return Plateau(start=float(x[start]), end=float(x[shoulder]))


def _lower_hull(x: Floats, y: Floats) -> list[int]:
    """The points of the greatest convex function that lies nowhere above (x, y)."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break  # b lies below the line from a to i
            hull.pop()
        hull.append(i)
    return hull
