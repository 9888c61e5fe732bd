"""``bench``: a recipe trained for a few steps, timed, and held against the machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import evolve

from mdmkit.benchmarking.find_batch import find_largest_batch, forget_compiled
from mdmkit.benchmarking.machine import measure_machine
from mdmkit.benchmarking.measuring import PROFILED, measure, phase_steps
from mdmkit.benchmarking.memory import watched
from mdmkit.benchmarking.result import BenchResult
from mdmkit.benchmarking.summing_up import sum_up
from mdmkit.benchmarking.synthetic import synthetic_text
from mdmkit.errors import RecipeError
from mdmkit.network import own_generators
from mdmkit.recipe import Recipe
from mdmkit.report.console import Quiet, Reporter, quiet
from mdmkit.training.distributed import World, open_world
from mdmkit.training.job import open_job


def bench(
    recipe: Recipe,
    *,
    steps: int = 20,
    warmup: int = 5,
    device: str = "auto",
    synthetic: bool = False,
    vocab_size: int | None = None,
    find_batch: bool = False,
    trace: Path | None = None,
    seconds: float = 3.0,
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
) -> BenchResult:
    """Train `recipe` for a few steps and say how fast that is, and where the time goes.

    The steps are those of `mdmkit.train`: the same loop, from the same start, on the same text.
    Validation, checkpoints, diagnosis, evaluators and trackers are left out. Nothing is kept but
    what the caches of text keep as usual. Under torchrun every rank takes part.

    Args:
        recipe: from `mdmkit.load_recipe`.
        steps: that are timed, at least 1.
        warmup: steps before them, at least 2: the first is timed apart.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        synthetic: train on random tokens, so that no corpus is needed.
        vocab_size: V of these, where it is not known without the text.
        find_batch: look for the largest micro-batch, too, which needs one CUDA device.
        trace: rank 0 writes a trace of the profiled steps there.
        seconds: about how long measuring the machine may take.
        reporter: whom to tell what takes long; nobody by default.
        command: what was typed, to be written down.

    Raises:
        RecipeError: where the recipe has too few steps, or there is no device to look for the
            largest batch on.
        MdmkitError: as training does.
    """
    _require_steps(recipe, warmup, steps)
    benched = as_benched(recipe)
    with open_world(device) as world, own_generators(world.device):
        teller = _Notifier(reporter or quiet()) if world.rank == 0 else quiet()
        text = synthetic_text(recipe, vocab_size) if synthetic else None
        largest = find_largest_batch(benched, world, text, teller) if find_batch else None
        forget_compiled()  # or the steps would run code made for batches of any size
        teller.notify("measuring what the machine can do")
        machine = measure_machine(world.device, recipe.train.precision, seconds=seconds)
        with (
            scratch(world) as directory,
            watched(world.device) as peak,
            open_job(benched, directory, world, teller, text=text) as job,
        ):
            teller.notify(f"training {_count(warmup, steps)} steps")
            measured = measure(job, warmup=warmup, steps=steps, peak=peak, trace=trace)
            return sum_up(
                recipe,
                job,
                machine,
                measured,
                text="synthetic" if synthetic else "real",
                largest=largest,
                command=command,
            )


def as_benched(recipe: Recipe) -> Recipe:
    """The recipe without what comes between its steps; the steps are the same."""
    train = evolve(recipe.train, validate_every=0, checkpoint_every=0, diagnose_every=0)
    return evolve(recipe, train=train, evaluators={}, trackers={})


@contextlib.contextmanager
def scratch(world: World) -> Iterator[Path]:
    """A directory that all ranks of a machine see, and that is gone after the body."""
    if world.rank > 0:
        yield Path(world.share(""))
        return
    with tempfile.TemporaryDirectory(prefix="mdmkit-bench-") as name:
        world.share(name)
        yield Path(name)


def _count(warmup: int, steps: int) -> int:
    return warmup + steps + phase_steps(steps) + PROFILED + 1


def _require_steps(recipe: Recipe, warmup: int, steps: int) -> None:
    needed = _count(warmup, steps) + 1  # the last of a recipe is followed by a validation
    if recipe.train.steps < needed:
        raise RecipeError(
            f"[train] steps: the recipe has {recipe.train.steps}, this bench takes {needed}; take "
            f"fewer with --steps and --warmup, or give --set train.steps={needed}"
        )


class _Notifier(Quiet):
    """Passes on what is said once, and nothing of the steps."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def notify(self, text: str) -> None:
        """Pass it on."""
        self._reporter.notify(text)
