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
    a few steps ahead by a thread. It corrupts them too, and puts them into memory that a GPU can
    copy from by itself, where that depends on the step alone; a component with a state may learn
    from the step before, so then the corruption waits for its turn. An error in the thread comes
    out of the step that it is of. The thread ends with the body, however that ends.
    """
    corrupt = job.live.objective.corrupt
    pinned = job.world.device.type == "cuda"

    def read(step: int) -> list[tuple[Batch, Draws]]:
        return list(job.batches.at(step))

    def make(step: int) -> list[Noised]:
        made = [corrupt(*parts) for parts in job.batches.at(step)]
        return [noised.pinned() for noised in made] if pinned else made

    with ThreadPoolExecutor(1, thread_name_prefix="mdmkit-prefetch") as thread:
        steps = range(job.step, job.recipe.train.steps)
        try:
            if job.live.stateful:
                parts_of = in_order(thread, read, steps)
                yield lambda step: [corrupt(*parts) for parts in parts_of(step)]
            else:
                yield in_order(thread, make, steps)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)  # what has not begun never will


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
