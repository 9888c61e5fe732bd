"""Steps of training, timed: the loop's own, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from attrs import frozen

from mdmkit.benchmarking.stopwatch import Interval, Stopwatch
from mdmkit.training.interrupt import StopRequest
from mdmkit.training.job import Job, ignored
from mdmkit.training.loop import run_steps
from mdmkit.values import MixedNoised, Noised

BEGIN = "data"
"""The first phase of a step: waiting for its micro-batches."""

Corrupted = Callable[[int], Sequence[Noised]]


class _Enough(Exception):  # noqa: N818 - no error: it leaves the loop
    """As many steps are done as were wanted."""


@frozen(kw_only=True)
class Counted:
    """What the micro-batches of one step had on this rank.

    Attributes:
        scored: positions whose cross-entropy counted.
        causal: rows of next-token prediction.
        rows: all rows.
    """

    scored: int
    causal: int
    rows: int


def run_counted(job: Job, corrupted: Corrupted, count: int, begin: Callable[[], None]) -> None:
    """Run the next `count` steps of `job`, by the training loop itself.

    The loop asks for the micro-batches of a step when it begins one, so that is where a step
    begins here, too; when it asks for one too many, it is left.

    Args:
        job: goes on from where it stands.
        corrupted: the micro-batches of each step, as `prefetched` gives them.
        count: steps.
        begin: called at the beginning of each, and at the end of the last.
    """
    end = job.step + count

    def next_ones(step: int) -> Sequence[Noised]:
        begin()
        if step == end:
            raise _Enough
        return corrupted(step)

    try:
        run_steps(job, StopRequest(), next_ones)
    except _Enough:
        return


def step_times(job: Job, corrupted: Corrupted, count: int) -> list[float]:
    """The seconds of each of the next `count` steps."""
    stopwatch = Stopwatch(job.world.device)
    run_counted(job, corrupted, count, lambda: stopwatch.mark(BEGIN))
    return [interval.seconds for interval in stopwatch.intervals()]


def phase_times(
    job: Job, corrupted: Corrupted, count: int
) -> tuple[list[dict[str, float]], list[Counted]]:
    """The seconds of each phase in each of the next `count` steps, and what the steps had.

    A phase lasts until the next begins, so those of a step add up to it.
    """
    stopwatch = Stopwatch(job.world.device)
    counts = []

    def noted(step: int) -> Sequence[Noised]:
        micro_batches = corrupted(step)
        stopwatch.mark("rest")
        counts.append(counted(micro_batches))
        return micro_batches

    with _told(job, stopwatch.mark):
        run_counted(job, noted, count, lambda: stopwatch.mark(BEGIN))
    return by_step(stopwatch.intervals()), counts


def by_step(intervals: Sequence[Interval]) -> list[dict[str, float]]:
    """The sum of the intervals of each name, for each step."""
    steps: list[dict[str, float]] = []
    for interval in intervals:
        if interval.name == BEGIN:
            steps.append({})
        steps[-1][interval.name] = steps[-1].get(interval.name, 0.0) + interval.seconds
    return steps


def counted(micro_batches: Sequence[Noised]) -> Counted:
    """Count what is in the micro-batches of a step."""
    causal = 0
    for noised in micro_batches:
        if isinstance(noised, MixedNoised):
            causal += int(noised.causal.sum())
        elif noised.attention.causal:
            causal += len(noised.inputs)
    return Counted(
        scored=sum(int(noised.in_loss.sum()) for noised in micro_batches),
        causal=causal,
        rows=sum(len(noised.inputs) for noised in micro_batches),
    )


@contextmanager
def _told(job: Job, phase: Callable[[str], None]) -> Iterator[None]:
    """The job tells `phase` what begins."""
    job.phase = phase
    try:
        yield
    finally:
        job.phase = ignored
