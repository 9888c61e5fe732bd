"""The steps of a bench, in order: the first, warm ones, timed ones, by phase, profiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from mdmkit.benchmarking.memory import Memory
from mdmkit.benchmarking.profiling import STEPS as PROFILED
from mdmkit.benchmarking.profiling import Profile, profile_steps
from mdmkit.benchmarking.steps import Counted, phase_times, step_times
from mdmkit.training.job import Job
from mdmkit.training.parallel import blocks_of
from mdmkit.training.prefetch import prefetched

_MOST_PHASE_STEPS = 10


@frozen(kw_only=True)
class Measured:
    """What the steps of a job gave on this rank.

    Attributes:
        first: seconds of the first step.
        steps: of the timed ones.
        cpu_seconds: that the process's threads computed in these.
        memory: the peak until after them.
        phases: seconds by phase, of the steps that came then.
        counts: what these had.
        profile: of the last ones.
    """

    first: float
    steps: list[float]
    cpu_seconds: float
    memory: Memory
    phases: list[dict[str, float]]
    counts: list[Counted]
    profile: Profile


def phase_steps(steps: int) -> int:
    """In how many steps the phases are timed, where `steps` are timed as a whole."""
    return min(steps, _MOST_PHASE_STEPS)


def measure(
    job: Job, *, warmup: int, steps: int, peak: Callable[[], Memory], trace: Path | None
) -> Measured:
    """Train and time `job`.

    Args:
        job: at its start.
        warmup: steps that are not timed, but for the first.
        steps: that are.
        peak: says the peak of memory so far.
        trace: where rank 0 writes that of the profiled steps.
    """
    with prefetched(job) as corrupted:
        (first,) = step_times(job, corrupted, 1)
        step_times(job, corrupted, warmup - 1)
        before = time.process_time()
        timed = step_times(job, corrupted, steps)
        cpu_seconds = time.process_time() - before
        memory = peak()
        phases, counts = phase_times(job, corrupted, phase_steps(steps))
        profile = profile_steps(
            job,
            corrupted,
            head_sizes=head_sizes(job),
            trace=trace if job.world.rank == 0 else None,
        )
    return Measured(
        first=first,
        steps=timed,
        cpu_seconds=cpu_seconds,
        memory=memory,
        phases=phases,
        counts=counts,
        profile=profile,
    )


def head_sizes(job: Job) -> frozenset[int]:
    """The sizes by which a product is known to be the head's; none if others have them, too.

    They are V, and those of tables that are filled up beyond it to a round size.
    """
    vocab, denoiser = job.tokenizer.vocab.size, job.root.denoiser
    micro = job.recipe.train.global_batch_size // (job.world.size * job.batches.accumulation)
    blocks = blocks_of(denoiser)
    within = {id(p): p for block in blocks for p in block.parameters()}
    others = {size for p in within.values() for size in p.shape}
    others.add(micro * job.recipe.data.length)
    tables = [p for p in denoiser.parameters() if p.ndim == 2 and id(p) not in within]  # [V, D]
    sizes = {vocab} | {len(p) for p in tables if vocab <= len(p) < 2 * vocab}
    return frozenset() if sizes & others else frozenset(sizes)


__all__ = ["PROFILED", "Measured", "head_sizes", "measure", "phase_steps"]
