"""Which masks a NELBO is estimated from, and what a masked token counts under each.

A design takes the random numbers of some (block, draw) pairs and gives masks and factors; the
estimate of a pair is factor·Σ of the masked cross-entropies. All are unbiased: n being a block's
scored tokens and h_k the mean cross-entropy of a masked token where a uniform subset of k is
masked, the NELBO of the block is Σ_{k=1..n} h_k (arXiv 2110.02037, eq. 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.pairs import MakeDraws, PairDraws
from mdmkit.diffusion import uniform_subset, with_padding

ROOT_SHARE = 0.8
"""Of the allocation, see `allocated_rate`."""


@frozen(kw_only=True, eq=False)
class Ask:
    """What a design is asked for.

    Attributes:
        scored: ``[B, L]`` bool, what may be masked.
        draws: the random numbers of these pairs.
        times: ``[N, n]`` float64 in (0, 1), of all pairs, stratified within each half of the
            blocks; see `times_by_half`.
        sampling_eps: no time is drawn below.
        padding: ``[B, L]`` bool, what is masked along with the text though it never counts; see
            `mdmkit.values.Batch`. None for none.
    """

    scored: Tensor
    draws: PairDraws
    times: Tensor
    sampling_eps: float
    padding: Tensor | None = None

    def padded(self, mask: Tensor, noise: Tensor) -> Tensor:
        """A subset of the text, the tokens with the smallest noise, and padding at its rate."""
        return mask if self.padding is None else with_padding(mask, noise, self.padding)


@frozen(kw_only=True, eq=False)
class Masks:
    """What a design gives.

    Attributes:
        mask: ``[B, L]`` bool; padding that is masked, too.
        factor: ``[B]`` float64, what the cross-entropy of a masked token counts.
    """

    mask: Tensor
    factor: Tensor


@frozen(kw_only=True)
class Design:
    """A design and what it needs.

    Attributes:
        masks: makes them; None where the objective's own `bound` is the estimate.
        group: consecutive draws of a block that belong together.
        controlled: whether the control variate is subtracted.
        says: how it is stratified, for the provenance.
    """

    masks: Callable[[Ask], Masks] | None
    group: int = 1
    controlled: bool = False
    says: str = "jittered over the draws of a block and over blocks"


def allocated_rate(u: Tensor) -> Tensor:
    """The mask rate r of a uniform number: u = s·√r + (1 − s)·r with s = `ROOT_SHARE`.

    A draw with k of n tokens masked is as noisy as k^(−1/2), so that is how often it should be
    made (Neyman's allocation); the second term keeps a floor, which costs little and bounds the
    weight of a nearly full mask.

    Args:
        u: ``[B]`` float64 in [0, 1].
    """
    s = ROOT_SHARE
    root = ((s**2 + 4 * (1 - s) * u).sqrt() - s) / (2 * (1 - s))
    return root**2


def allocated_share(rate: Tensor) -> Tensor:
    """The inverse of `allocated_rate`."""
    return ROOT_SHARE * rate.sqrt() + (1 - ROOT_SHARE) * rate


def controlled(ask: Ask) -> Masks:
    """Counts drawn as often as they are noisy, p(k) = F(k/n) − F((k − 1)/n), and weighted back.

    F is `allocated_share`; a masked token counts (n/k)·1/(n·p(k)).
    """
    n = ask.scored.sum(-1).double()
    k = (allocated_rate(ask.draws.of(ask.times)) * n).ceil().clamp(min=1)
    k = torch.minimum(k, n)
    size = n.clamp(min=1)
    chance = allocated_share(k / size) - allocated_share((k - 1).clamp(min=0) / size)
    noise = ask.draws.uniform("nelbo/mask", ask.scored.shape[-1])
    mask = uniform_subset(noise, k.long(), ask.scored)
    factor = (1 / (k * chance)).where(k > 0, 0.0)
    return Masks(mask=ask.padded(mask, noise), factor=factor)


def pairs(ask: Ask) -> Masks:
    """Two draws at a time: k uniform on 1..n, and the n − k tokens that the first left visible.

    The complement of a full mask is empty; a full mask stands in, so that each of the two has a
    count uniform on 1..n.
    """
    n = ask.scored.sum(-1)
    u = ask.draws.strata("nelbo/time", "jittered", group=2)
    k = (u * n).ceil().long()
    noise = ask.draws.uniform("nelbo/mask", ask.scored.shape[-1], group=2)
    first = uniform_subset(noise, k, ask.scored)
    second = ask.scored & (~first | (k == n)[:, None])
    is_first = (ask.draws.draw % 2 == 0)[:, None]
    mask = torch.where(is_first, first, second)
    count = mask.sum(-1).clamp(min=1)
    # what the first left visible has the largest noise; float64, for 1 - noise to keep the order
    turned = torch.where(is_first | (k == n)[:, None], noise.double(), 1 - noise.double())
    return Masks(mask=ask.padded(mask, turned), factor=n.double() / count)


def time(ask: Ask) -> Masks:
    """MDLM's: t jittered over [eps, 1], each token masked by itself at (1 − eps)·t, weight 1/t.

    Its own schedule and not the run's, since a denoiser is a denoiser of mask rates: the
    expectation is n·∫ h((1 − eps)·t) dt over [eps, 1], h being the cross-entropy of a masked token
    at a mask rate. With eps > 0 a little of the bound is left out, as there: of a constant h, eps.
    """
    eps = ask.sampling_eps
    t = eps + (1 - eps) * ask.draws.strata("nelbo/time", "jittered")
    noise = ask.draws.uniform("nelbo/mask", ask.scored.shape[-1])
    among = ask.scored if ask.padding is None else ask.scored | ask.padding
    mask = (noise.double() < ((1 - eps) * t)[:, None]) & among
    return Masks(mask=mask, factor=1 / t)


DESIGNS: Mapping[str, Design] = {
    "controlled": Design(
        masks=controlled,
        controlled=True,
        says="jittered over the draws of a block and over each half of the blocks",
    ),
    "count": Design(masks=None),
    "pairs": Design(masks=pairs, group=2),
    "time": Design(masks=time),
}


def times_by_half(make: MakeDraws, seed: int, step: int, blocks: int, draws: int) -> Tensor:
    """Times for all pairs, stratified within each half of the blocks and independent between.

    Draw k lies in the k-th n-th of (0, 1). Which of its strata a block of the half gets is a
    random permutation, so that each number by itself is uniform in its n-th. Blocks at even and
    at odd places are the two halves: what is fitted on one knows nothing of the other's times.

    Returns:
        ``[N, n]`` float64.
    """
    times = torch.zeros(blocks, draws, dtype=torch.float64)
    for half in (0, 1):
        count = len(range(half, blocks, 2))
        source = make(seed, step, torch.arange(count * draws), count * draws)
        strata = source.strata(f"nelbo/time/half {half}", "jittered").view(draws, count)
        noise = source.strata(f"nelbo/order/half {half}", "iid").view(draws, count)
        times[half::2] = strata.gather(1, noise.argsort(-1)).T
    return times
