"""What a comparison of trainings wants to know now and then: loss by time, gradient noise.

The noise is measured from two halves of a global batch (McCandlish et al., arXiv 1812.06162,
appendix A.1). With gradients g_A, g_B of halves of B/2 rows each, true gradient G and covariance
S of one row's gradient, E<g_A, g_B> = |G|^2 and E(|g_A|^2 + |g_B|^2)/2 = |G|^2 + tr(S)/(B/2). One
measurement is itself very noisy (and the first may come out negative): average trace and signal
over many, then divide. The *gradient noise scale* tr(S)/|G|^2 is in rows.
"""

from __future__ import annotations

from functools import partial

import torch
from attrs import evolve
from torch import Tensor

from mdmkit.draws import derive_seed
from mdmkit.network import autocast
from mdmkit.training.distributed import full
from mdmkit.training.job import Job
from mdmkit.training.sharding import communicate
from mdmkit.values import Noised


def diagnose(job: Job) -> None:
    """Log the loss by time since the last time, and one measurement of the gradient noise.

    It changes nothing of the training: every step seeds its own randomness.
    """
    by_time = job.time_bins.read(job.world)
    job.time_bins.restart()
    trace, signal = gradient_noise(job)
    job.log(
        {
            **{f"train/nll_at_t/{centre:.2f}": nll for centre, nll in by_time.items()},
            "train/grad_noise_trace": trace,
            "train/grad_noise_signal": signal,
        }
    )


def gradient_noise(job: Job) -> tuple[float | None, float | None]:
    """One estimate each of tr(S) and |G|^2 at the present weights, on the next batch.

    The halves are stratified like the batch they are of, so the trace is that of a batch whose
    times are stratified. The estimates are unbiased where rows are independent given their strata
    (times iid or jittered) and the halves are of equal size; mirrored and offset times share
    random numbers between rows, which gives both a bias. None where a half is empty.
    """
    first, second = (_half_gradient(job, half) for half in (0, 1))
    if first is None or second is None:
        return None, None
    both = [a + b for a, b in zip(first, second, strict=True)]
    square_first, square_second, square_both = (
        full(torch.nn.utils.get_total_norm(gradients)).double().square().item()
        for gradients in (first, second, both)
    )
    signal = (square_both - square_first - square_second) / 2
    rows = job.batches.rows
    return rows / 2 * ((square_first + square_second) / 2 - signal), signal


def _half_gradient(job: Job, half: int) -> list[Tensor] | None:
    """The gradient of half of the next global batch, by parameter; None where it is empty."""
    micro_batches = [_half_of_rows(job, index, half) for index in range(job.batches.accumulation)]
    share = torch.stack([noised.denominator for noised in micro_batches]).sum()
    denominator = job.world.sum(share).item()
    for index, noised in enumerate(micro_batches):
        communicate(job.root, job.recipe.parallel, last=index == len(micro_batches) - 1)
        torch.manual_seed(derive_seed(job.recipe.run.seed, job.step, job.world.rank, index))
        with autocast(job.world.device, job.recipe.train.precision):
            loss = job.root(partial(job.live.objective.loss, noised=noised.to(job.world.device)))
        (loss.total / (denominator or 1.0)).backward()
    gradients = [p.grad.detach() for p in job.root.parameters() if p.grad is not None]
    job.optimizer.zero_grad(set_to_none=True)
    return gradients if denominator else None


def _half_of_rows(job: Job, index: int, half: int) -> Noised:
    """The rows of a micro-batch that are of this half, noised as they would be in training.

    Where it has none, one row that counts for nothing: every rank must call the network.
    """
    rows = job.batches.rows_of(index)
    mine = rows[_halves(rows // job.batches.group) == half]
    noised = job.live.objective.corrupt(*job.batches.of_rows(job.step, mine if len(mine) else rows))
    if len(mine):
        return noised
    nothing = torch.zeros_like(noised.in_loss)
    return evolve(noised, in_loss=nothing, denominator=torch.zeros_like(noised.denominator))


def _halves(sequences: Tensor) -> Tensor:
    """The half of each sequence of the global batch, 0 or 1: the Thue-Morse sequence.

    It splits strata evenly, and any power-of-two stride of them too, so that the halves do not
    depend on ranks or micro-batches and nearly every one of these has rows of both.
    """
    parity = torch.zeros_like(sequences)
    while (sequences > 0).any():
        parity, sequences = parity ^ (sequences & 1), sequences >> 1
    return parity
