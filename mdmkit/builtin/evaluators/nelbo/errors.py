"""The part of the standard error that is due to the draws on given text."""

from __future__ import annotations

from torch import Tensor


def error_of_draws(nats: Tensor, group: int, draws: int) -> float | None:
    """The standard error of Σ_b mean_d nats[b, d] that is due to the draws, on these very blocks.

    From the spread of a block's draws, the mean of each stratum (over blocks) taken out, since
    stratified draws do not differ by it from one time to another. What remains of the strata, where
    blocks differ in their curves, makes it a little too large, never too small on average.

    Args:
        nats: ``[N, D]`` float64, the estimates of N blocks, in rounds of `draws` draws.
        group: consecutive draws that belong together; independent of the others are their means.
        draws: of a round; draw d of each round lies in the same stratum.

    Returns:
        None where a block has one independent draw only, whose error shows in nothing.
    """
    blocks, total = nats.shape
    units = nats.view(blocks, total // group, group).mean(-1)
    if units.shape[1] < 2:
        return None
    strata = units.view(blocks, total // draws, draws // group)
    around = strata - strata.mean((0, 1), keepdim=True)
    return float((around.flatten(1).var(-1) / units.shape[1]).sum().sqrt())
