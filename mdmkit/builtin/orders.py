"""How sure a network is of what is under a mask, which says which mask is lifted first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

Order = Literal["margin", "confidence", "entropy", "left_to_right"]


def margin(log_p: Tensor) -> Tensor:
    """By how much the likeliest token is likelier than the next: ``[..., V]`` to ``[...]``."""
    best = log_p.topk(2, -1).values.exp()
    return best[..., 0] - best[..., 1]


def confidence(log_p: Tensor) -> Tensor:
    """log-probability of the likeliest token: ``[..., V]`` to ``[...]``."""
    return log_p.amax(-1)


def negative_entropy(log_p: Tensor) -> Tensor:
    """−H in nats: ``[..., V]`` to ``[...]``."""
    return (log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)  # the mask's −∞ has probability 0


def left_to_right(log_p: Tensor) -> Tensor:
    """The same everywhere, since ties go to the left: ``[..., V]`` to ``[...]``."""
    return log_p.new_zeros(log_p.shape[:-1])


ORDERS: Mapping[Order, Callable[[Tensor], Tensor]] = {
    "margin": margin,
    "confidence": confidence,
    "entropy": negative_entropy,
    "left_to_right": left_to_right,
}
"""log p(token) ``[N, V]`` float64 at masked positions to what says who is first: the highest."""
