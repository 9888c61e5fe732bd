"""The mathematics of masked diffusion: tensors in, tensors out, the randomness handed in.

Shapes: B rows, L positions, V vocabulary, N any number of positions. Sources: MDLM
(arXiv 2406.07524), MD4 (arXiv 2406.04329).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

TINY = 2.0**-64
"""The smallest u or t that is ever used: times stay strictly inside (0, 1)."""

GOLDEN = (math.sqrt(5) - 1) / 2
"""φ, the conjugate of the golden ratio: of all numbers the worst to approximate by fractions."""


def mask_tokens(x0: Tensor, mask: Tensor, mask_id: int) -> Tensor:
    """The forward process, once it is known what to mask: x0 to xt.

    Args:
        x0: ``[B, L]`` clean token ids.
        mask: ``[B, L]`` bool, True where a token is replaced.
        mask_id: the id that stands for "masked".
    """
    return torch.where(mask, mask_id, x0)


def masked_logits(logits: Tensor, mask_id: int) -> Tensor:
    """The logits, in float32 at least, with the mask's at −∞ (SUBS: a mask is never predicted).

    Args:
        logits: ``[..., V]``.
        mask_id: the id whose probability is set to zero.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    is_mask = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    return logits.masked_fill(is_mask, -torch.inf)


def subs_log_probs(logits: Tensor, xt: Tensor, mask_id: int) -> Tensor:
    """log p(x0 | xt) under SUBS: no mask is predicted, visible tokens are carried over.

    Args:
        logits: ``[B, L, V]`` of the denoiser.
        xt: ``[B, L]`` its input.
        mask_id: the mask's id.

    Returns:
        ``[B, L, V]`` float32 (float64 for float64 logits); each row sums to 1 in probability.
    """
    log_p_x0 = masked_logits(logits, mask_id).log_softmax(-1)
    carried = torch.full_like(log_p_x0, -torch.inf).scatter_(-1, xt.unsqueeze(-1), 0.0)
    return torch.where((xt == mask_id).unsqueeze(-1), log_p_x0, carried)


def masked_nll(logits: Tensor, targets: Tensor, mask_id: int) -> Tensor:
    """Cross-entropy of the true token at masked positions, with the mask's logit at −∞.

    Args:
        logits: ``[N, V]`` at the masked positions.
        targets: ``[N]`` the clean tokens there.
        mask_id: the mask's id, which is never a target.

    Returns:
        ``[N]`` float32 nats.
    """
    return functional.cross_entropy(masked_logits(logits, mask_id), targets, reduction="none")


def scattered(values: Tensor, where: Tensor) -> Tensor:
    """Put `values`, given for the True positions of `where` in row-major order, in their places.

    Args:
        values: ``[N]``.
        where: ``[B, L]`` bool with N True entries.

    Returns:
        ``[B, L]`` of the type of `values`, 0 where `where` is False.
    """
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(
        where, values
    )


def sum_by_row(values: Tensor, where: Tensor) -> Tensor:
    """Sum `values`, given for the True positions of `where` in row-major order, by row.

    Args:
        values: ``[N]`` with N = number of True entries.
        where: ``[B, L]`` bool.

    Returns:
        ``[B]`` of the dtype of `values`.
    """
    rows = where.nonzero()[:, 0]
    return values.new_zeros(where.shape[0]).index_add_(0, rows, values)


def nelbo_weight(alpha_t: Tensor, dalpha_t: Tensor) -> Tensor:
    """−alpha'_t / (1 − alpha_t), the weight of the continuous-time NELBO (MDLM eq. 10).

    For the linear schedule this is exactly 1/t.
    """
    return -dalpha_t / (1 - alpha_t)


def stratify(noise: Tensor, kind: Literal["iid", "jittered", "offset", "mirrored"]) -> Tensor:
    """Uniform numbers for a whole batch, spread more evenly than chance would.

    Args:
        noise: ``[G]`` float64, independent, uniform on [0, 1).
        kind: ``iid``: as they are. ``jittered``: u_i = (i + v_i)/G, one in each of G strata
            (MDLM's "antithetic"). ``offset``: u_i = (i + v_0)/G, one shared offset (MD4, RADD).
            ``mirrored``: jittered in the lower half, with twins u_{G−1−i} = 1 − u_i.

    Returns:
        ``[G]`` float64 inside (0, 1). All kinds but ``iid`` put exactly one number in each
        stratum [i/G, (i+1)/G), in order of i: number i is uniform in stratum i, and a number
        picked at random is uniform in (0, 1). Rows that are not in random order must therefore
        be shuffled, or what they contribute depends on where they stand.
    """
    count = noise.shape[0]
    index = torch.arange(count, dtype=torch.float64)
    jittered = (index + noise) / count
    offset = (index + noise[:1]) / count
    half = count // 2
    mirrored = torch.cat([jittered[: count - half], 1 - jittered[:half].flip(0)])
    kinds = {"iid": noise, "jittered": jittered, "offset": offset, "mirrored": mirrored}
    return kinds[kind].clamp(TINY, 1 - 2.0**-53)


def golden_sequence(start: Tensor, places: Tensor) -> Tensor:
    """frac(u + i·φ): numbers that fill (0, 1) more evenly than chance, however many are taken.

    Args:
        start: u, uniform on [0, 1); the result is uniform at each i over its draws.
        places: i, int64 or float64, of a shape that broadcasts with `start`.

    Returns:
        float64 of the common shape, in [0, 1).
    """
    return (start.double() + places.double() * GOLDEN).frac()


def invert_increasing(
    function: Callable[[Tensor], Tensor], values: Tensor, *, steps: int = 60
) -> Tensor:
    """Solve function(t) = value on (0, 1) by bisection, for an increasing function.

    Args:
        function: ``[B] -> [B]``, increasing on [0, 1].
        values: ``[B]`` float64.
        steps: halvings; 60 reach the resolution of float64.

    Returns:
        ``[B]`` float64 inside (0, 1).
    """
    low, high = torch.zeros_like(values), torch.ones_like(values)
    for _ in range(steps):
        middle = (low + high) / 2
        below = function(middle) < values
        low = torch.where(below, middle, low)
        high = torch.where(below, high, middle)
    return ((low + high) / 2).clamp(TINY, 1 - 2.0**-53)


def time_at_mask_rate(alpha: Callable[[Tensor], Tensor], rate: Tensor) -> Tensor:
    """The time at which a schedule masks a given share: t with 1 − alpha(t) = rate.

    Args:
        alpha: the schedule's survival probability, falling in t.
        rate: ``[B]`` float64 in (0, 1); a rate past the schedule's end gives t → 1.
    """
    return invert_increasing(lambda t: 1 - alpha(t), rate)


def times_of_counts(
    alpha: Callable[[Tensor], Tensor], length: int, device: torch.device | None = None
) -> Tensor:
    """The times at which a schedule masks 0, 1, …, `length` of so many tokens.

    Args:
        alpha: the schedule's survival probability, falling in t.
        length: how many tokens there are.
        device: where the result is wanted.

    Returns:
        ``[length + 1]`` float64 inside of (0, 1); with m of them masked a sampler is at entry m.
    """
    shares = torch.arange(length + 1, dtype=torch.float64, device=device) / length
    return time_at_mask_rate(alpha, shares)


class GridDensity:
    """A piecewise-constant density on (0, 1), from its values on equal cells.

    Gives a time sampler both parts of its contract, ``density`` and ``icdf``, where no closed
    form exists.
    """

    def __init__(self, values: Tensor) -> None:
        """Take ``values [K]``, positive; they are scaled to integrate to 1.

        Raises:
            ValueError: where a value is not positive and finite.
        """
        values = values.double()
        if values.ndim != 1 or not (values.isfinite().all() and (values > 0).all()):
            raise ValueError("a grid density needs a row of positive, finite values")
        self._values = values / values.mean()
        self._edges = torch.cat([values.new_zeros(1), self._values.cumsum(0) / len(values)])
        self._edges[-1] = 1.0

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``."""
        cells = len(self._values)
        return self._values[(t * cells).long().clamp(0, cells - 1)]

    def icdf(self, u: Tensor) -> Tensor:
        """The quantile of u, ``[B] -> [B]`` float64, inside (0, 1)."""
        cells = len(self._values)
        cell = (torch.searchsorted(self._edges, u, right=True) - 1).clamp(0, cells - 1)
        inside = (u - self._edges[cell]) * cells / self._values[cell]
        return ((cell + inside) / cells).clamp(TINY, 1 - 2.0**-53)


def uniform_subset(noise: Tensor, count: Tensor, among: Tensor) -> Tensor:
    """A uniformly chosen subset of given size in each row.

    Args:
        noise: ``[B, L]`` uniform on [0, 1).
        count: ``[B]`` int64, how many to choose; at most the row's candidates.
        among: ``[B, L]`` bool, the candidates.

    Returns:
        ``[B, L]`` bool with exactly ``count`` True entries a row, all among the candidates.
    """
    order = noise.masked_fill(~among, torch.inf).argsort(dim=-1, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
    return (rank < count[:, None]) & among


def with_padding(mask: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
    """A mask of `uniform_subset`, and padding masked at the same rate.

    Padding is masked where its noise is no higher than that of any masked token. With k of n
    tokens masked this bound is the k-th smallest of n uniforms, Beta(k, n − k + 1): just the time
    t of a mask that has k of n tokens, if t is uniform and weighted by 1/t. So an estimate with
    k uniform on 1..n has the expectation of one with t uniform and independent masks everywhere.

    Args:
        mask: ``[B, L]`` bool, the tokens with the smallest noise.
        noise: ``[B, L]``, uniform on [0, 1) and independent.
        padding: ``[B, L]`` bool.
    """
    bound = noise.masked_fill(~mask, -1).amax(dim=-1, keepdim=True)
    return mask | (padding & (noise <= bound))
