"""The next steps' micro-batches, made in the background while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from mdmkit.protocols import Draws
from mdmkit.training.job import Job
from mdmkit.values import Batch, Noised

T = TypeVar("T")

_STEPS_AHEAD = 2


@contextmanager
def prefetched(job: Job) -> Iterator[Callable[[int], Sequence[Noised]]]:
    """Gives the corrupted micro-batches of each step, to be asked for in order.

    They are what ``job.live.objective.corrupt`` makes of ``job.batches.at(step)``. Blocks are read
    a few steps ahead by a thread. It corrupts them too, where that depends on the step alone; a
    component with a state may learn from the step before, so then the corruption waits for its
    turn. An error in the thread comes out of the step that it is of. The thread ends with the
    body, however that ends.
    """

    def read(step: int) -> list[tuple[Batch, Draws]]:
        return list(job.batches.at(step))

    def make(step: int) -> list[Noised]:
        return [corrupted(job, *parts) for parts in job.batches.at(step)]

    with ThreadPoolExecutor(1, thread_name_prefix="mdmkit-prefetch") as thread:
        steps = range(job.step, job.recipe.train.steps)
        try:
            if job.live.stateful:
                parts_of = in_order(thread, read, steps)
                yield lambda step: [corrupted(job, *parts) for parts in parts_of(step)]
            else:
                yield in_order(thread, make, steps)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)  # what has not begun never will


def corrupted(job: Job, batch: Batch, draws: Draws) -> Noised:
    """A micro-batch with all that the device would have to be asked for later.

    The places of its loss are counted here; with compiled blocks they are filled up to whole
    chunks, so that shapes stay the same. For a GPU it lies in memory that is copied from without
    waiting.
    """
    noised = job.live.objective.corrupt(batch, draws)
    noised = noised.placed(job.fill)
    return noised.pinned() if job.world.device.type == "cuda" else noised


def in_order(thread: Executor, work: Callable[[int], T], steps: range) -> Callable[[int], T]:
    """A function that gives ``work(step)`` for each of `steps` in turn, begun some steps ahead."""
    left = iter(steps)
    ahead: deque[tuple[int, Future[T]]] = deque()

    def begin(count: int) -> None:
        ahead.extend((step, thread.submit(work, step)) for step in islice(left, count))

    def result(step: int) -> T:
        begin(_STEPS_AHEAD + 1 - len(ahead))
        expected, future = ahead.popleft()
        assert step == expected
        return future.result()

    return result
