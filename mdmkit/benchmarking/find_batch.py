"""The largest batch that fits into a GPU."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from attrs import evolve, frozen

from mdmkit.benchmarking.steps import step_times
from mdmkit.errors import RecipeError
from mdmkit.recipe import Recipe
from mdmkit.report.console import Reporter, quiet
from mdmkit.training.distributed import World
from mdmkit.training.job import Text, open_job
from mdmkit.training.prefetch import prefetched

MOST = 2**16
"""More rows than that are not looked for."""

_STEPS = 3


@frozen(kw_only=True)
class LargestBatch:
    """The largest micro-batch that a device can train.

    Attributes:
        rows: of it; 0 where not even the smallest fits.
        tried: whether it fitted, by rows.
        tokens_per_second: with it, or None.
        peak: bytes that torch's allocator had given out at most, or None.
    """

    rows: int
    tried: dict[int, bool]
    tokens_per_second: float | None
    peak: int | None


def find_largest_batch(
    recipe: Recipe, world: World, text: Text | None, reporter: Reporter
) -> LargestBatch:
    """Train a few steps with larger and larger micro-batches, one a step.

    Args:
        recipe: its batch sizes are replaced.
        world: one process on a CUDA device.
        text: as for `open_job`.
        reporter: is told what is tried.

    Raises:
        RecipeError: on a CPU, where the machine would swap instead of refusing, and on several
            ranks, where one that runs out of memory leaves the others waiting.
    """
    if world.device.type != "cuda":
        raise RecipeError(
            "--find-batch: needs a CUDA device; a CPU takes any batch until the machine stalls"
        )
    if world.size > 1:
        raise RecipeError(
            "--find-batch: needs a single process; ranks that still fit would wait for ever for "
            "one that does not"
        )
    found: dict[int, tuple[float, int]] = {}
    tried: dict[int, bool] = {}

    def fits(rows: int) -> bool:
        reporter.notify(f"trying a micro-batch of {rows} rows")
        speed = _tried(recipe, rows, world, text)
        tried[rows] = speed is not None
        if speed is not None:
            found[rows] = speed
        return tried[rows]

    group = _group(recipe, world, text)
    rows = group * largest(lambda n: fits(n * group), most=MOST // group)
    speed, peak = found.get(rows, (None, None))
    return LargestBatch(rows=rows, tried=tried, tokens_per_second=speed, peak=peak)


def largest(fits: Callable[[int], bool], *, most: int) -> int:
    """The largest n ≥ 1 with ``fits(n)``, or 0: doubled until it does not fit, then bisected.

    Args:
        fits: true up to some n, false beyond.
        most: nothing beyond is tried.

    >>> largest(lambda n: n <= 11, most=100), largest(lambda n: True, most=100)
    (11, 64)
    """
    good, bad = 0, 1
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
    if bad > most:
        return good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def forget_compiled() -> None:
    """Let nothing that was compiled for other shapes decide how these are compiled."""
    torch._dynamo.reset()


def _group(recipe: Recipe, world: World, text: Text | None) -> int:
    """Rows that share a block, of which a batch is a multiple."""
    with (
        tempfile.TemporaryDirectory(prefix="mdmkit-bench-") as folder,
        open_job(recipe, Path(folder), world, quiet(), text=text) as job,
    ):
        return job.live.objective.group


def _tried(recipe: Recipe, rows: int, world: World, text: Text | None) -> tuple[float, int] | None:
    """Tokens a second and peak memory with `rows`, or None where they do not fit."""
    train = evolve(recipe.train, global_batch_size=rows, micro_batch_size=rows)
    forget_compiled()
    torch.cuda.reset_peak_memory_stats(world.device)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="mdmkit-bench-") as folder,
            open_job(evolve(recipe, train=train), Path(folder), world, quiet(), text=text) as job,
            prefetched(job) as corrupted,
        ):
            seconds = min(step_times(job, corrupted, _STEPS))
        return rows * recipe.data.length / seconds, torch.cuda.max_memory_allocated(world.device)
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()  # a job has cycles, and all of its weights would stay
        torch.cuda.empty_cache()
