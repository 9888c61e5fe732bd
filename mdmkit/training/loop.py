"""The training loop, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mdmkit.draws import derive_seed
from mdmkit.errors import RunInterrupted
from mdmkit.network import autocast, own_generators
from mdmkit.recipe import Recipe
from mdmkit.report.console import Reporter, quiet
from mdmkit.runs.checkpoints import steps_on_disk
from mdmkit.runs.failure import recorded
from mdmkit.training.branch import begun, parse_branch
from mdmkit.training.diagnosis import diagnose
from mdmkit.training.distributed import open_world
from mdmkit.training.finish import RunResult, finish, sample_job, validate_job
from mdmkit.training.interrupt import StopRequest, listening
from mdmkit.training.job import Job, open_job
from mdmkit.training.optimizer import clip_gradients, step_where_finite
from mdmkit.training.prefetch import prefetched
from mdmkit.training.run_directory import open_run, run_directory
from mdmkit.training.sharding import communicate
from mdmkit.training.telemetry import Clock, check_finite, due, log_window, row_statistics
from mdmkit.training.totals import Totals
from mdmkit.values import Loss, Noised


def train(
    recipe: Recipe,
    *,
    runs_dir: str | Path | None = None,
    resume: str | Path | None = None,
    branch_from: str | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> RunResult:
    """Train what `recipe` says, evaluate it, and keep everything in a run directory.

    A run that was interrupted goes on from its last whole checkpoint, with bitwise the same
    metrics on a CPU as one that was not.

    Args:
        recipe: from `mdmkit.load_recipe`.
        runs_dir: the folder of all runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        resume: a run directory to go on in; its recipe must be this one. By default the
            directory is a function of the recipe.
        branch_from: ``RUN@STEP``: begin with the weights, optimizer state and position that
            another run had at that step; text, network and batch must be the same.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``. torchrun's environment is respected.
        reporter: whom to tell; nobody by default.

    Returns:
        The run directory, the evaluators' results and a few samples.

    Raises:
        MdmkitError: for everything the caller can mend (data, directory, recipe).
        RunInterrupted: after SIGINT or SIGTERM; in the middle of the steps the position is saved
            first, unless there is a second signal.
    """
    reporter = reporter or quiet()
    branch = None if branch_from is None else parse_branch(branch_from, runs_dir)
    directory = Path(resume) if resume else run_directory(recipe, runs_dir, branch)
    if branch is not None and not begun(directory):
        branch.check(recipe)
    try:
        with (
            open_world(device) as world,
            open_run(recipe, directory, world, branch, reporter.notify),
            recorded(directory, rank=world.rank) as watched,
            own_generators(world.device),
            open_job(recipe, directory, world, reporter if world.rank == 0 else quiet()) as job,
        ):
            watched.step = lambda: job.step
            with listening() as stop, prefetched(job) as corrupted:
                run_steps(job, stop, corrupted)
            return finish(job)
    except KeyboardInterrupt as error:
        steps = steps_on_disk(directory)
        saved = f"step {steps[-1]} is saved in {directory}" if steps else "no step is saved yet"
        raise RunInterrupted(
            f"stopped at once; {saved}. Start the same command again to go on from there"
        ) from error
    finally:
        reporter.close()  # a bar that is left running hides the cursor


def run_steps(job: Job, stop: StopRequest, corrupted: Callable[[int], Sequence[Noised]]) -> None:
    """Train to the last step, from wherever the job stands, on the micro-batches of each step."""
    options, world = job.recipe.train, job.world
    observe = getattr(job.live.time_sampler, "observe", None)
    saved = job.step
    totals, clock = Totals(world, lambda: stop.asked or job.saver.failed), Clock(job)
    job.reporter.start(total=options.steps, done=job.step)
    job.root.train()

    while True:
        last, stopping = job.step == options.steps, totals.stopping()
        validate = last or due(job.step, options.validate_every)
        if validate and job.step != job.validated and not stopping:  # whoever asks is in a hurry
            with clock.elsewhere():
                validate_job(job)
        if job.step != saved and (stopping or last or due(job.step, options.checkpoint_every)):
            check_finite(job)
            with clock.elsewhere():
                job.save()
            saved = job.step
        sample = job.step > 0 and due(job.step, options.sample_every or 0)
        if sample and not (last or stopping):  # after the save: no sampler can cost it
            with clock.elsewhere():
                sample_job(job)
        if last or stopping:
            job.saver.settle()
            stopping = stopping or totals.ask()
        if last and not stopping:
            return
        if stopping:
            raise RunInterrupted(
                f"stopped at step {job.step} of {options.steps}; everything is saved in "
                f"{job.directory}. Start the same command again to go on from there"
            )

        # Every micro-batch is corrupted first: the normaliser counts all of them, on every rank.
        micro_batches = corrupted(job.step)
        denominator = totals.denominator(micro_batches)
        learning_rate = job.recipe.learning_rate.peak * job.learning_rate(job.step)
        losses = train_step(job, micro_batches, denominator, learning_rate)
        if observe is not None:
            observe(*row_statistics(job, micro_batches, losses))

        job.step += 1
        if due(job.step, options.log_every):
            log_window(job, clock, learning_rate)
        if due(job.step, options.diagnose_every):
            with clock.elsewhere():
                diagnose(job)


def train_step(
    job: Job, micro_batches: Sequence[Noised], denominator: Tensor, learning_rate: float
) -> list[Loss]:
    """Change the weights once, by all micro-batches of a step. Nothing here waits for the device.

    Args:
        job: whose weights, optimizer and average change, and whose windows count the step.
        micro_batches: those of this rank, on the CPU.
        denominator: what the sum of all losses is divided by, a scalar on the device.
        learning_rate: of this step.

    Returns:
        The loss of each micro-batch.
    """
    device, objective = job.world.device, job.live.objective
    step_loss = torch.zeros((), device=device)
    losses: list[Loss] = []
    times: list[Tensor | None] = []
    for index, noised in enumerate(micro_batches):
        communicate(job.root, job.recipe.parallel, last=index == len(micro_batches) - 1)
        # Dropout alone knows of ranks: it is a function of (seed, step, rank, index).
        torch.manual_seed(derive_seed(job.recipe.run.seed, job.step, job.world.rank, index))
        job.phase("copy")
        there = noised.to(device)
        job.phase("forward")
        with autocast(device, job.recipe.train.precision):
            loss = job.root(partial(objective.loss, noised=there))
        job.phase("backward")
        (loss.total / denominator).backward()
        step_loss += loss.total.detach() / denominator
        # The graph would keep what checkpointed blocks were given until the end of the step.
        losses.append(loss._replace(total=loss.total.detach()))
        times.append(there.t)

    job.phase("update")
    norm = clip_gradients(job.root.parameters(), job.recipe.train.clip_norm)
    finite = norm.isfinite()
    step_where_finite(job.optimizer, finite, learning_rate)
    job.optimizer.zero_grad(set_to_none=True)
    job.ema.update(job.step, finite)
    job.phase("rest")
    scored = torch.stack([noised.in_loss.sum() for noised in micro_batches]).sum()
    job.window.add(step_loss, scored.to(device, non_blocking=True), norm, finite)
    job.time_bins.add(times, losses)
    return losses
