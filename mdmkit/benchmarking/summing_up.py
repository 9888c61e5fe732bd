"""From what was measured to what is told."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import nn

from mdmkit.benchmarking.find_batch import LargestBatch
from mdmkit.benchmarking.machine import Machine, matmul_dtype
from mdmkit.benchmarking.measuring import Measured
from mdmkit.benchmarking.result import BenchResult, Sizes, Spread, Utilisation, utilisation
from mdmkit.benchmarking.roofline import Part, Work, layer_numbers, roofline
from mdmkit.costs import Flops, flops_per_token, inputs_per_position
from mdmkit.costs.meta import build_on_meta
from mdmkit.environment import environment
from mdmkit.errors import RecipeError
from mdmkit.metrics_log import METRICS, read_metrics
from mdmkit.recipe import Recipe, recipe_hash
from mdmkit.training.distributed import local
from mdmkit.training.job import Job

PHASES = ("data", "copy", "forward", "backward", "update", "rest")
"""What a step consists of, in order."""


def sum_up(
    recipe: Recipe,
    job: Job,
    machine: Machine,
    measured: Measured,
    *,
    text: str,
    largest: LargestBatch | None,
    command: Sequence[str] | None,
) -> BenchResult:
    """The result, on every rank (a collective call); times are those of this one."""
    machines = job.world.gather(machine)
    sizes = _sizes(job, measured)
    flops = _flops(recipe, sizes)
    step = Spread.of(measured.steps)
    speed = sizes.rows * sizes.length / step.median
    return BenchResult(
        recipe={"name": recipe.run.name, "hash": recipe_hash(recipe)},
        text=text,
        devices=job.world.size,
        machines=machines,
        sizes=sizes,
        flops_per_token=flops,
        step=step,
        first_step=measured.first,
        tokens_per_second=speed,
        cpu_seconds=measured.cpu_seconds / sum(measured.steps),
        phases={
            name: Spread.of([phases.get(name, 0.0) for phases in measured.phases])
            for name in PHASES
        },
        phase_step=Spread.of([sum(phases.values()) for phases in measured.phases]),
        utilisation=None if flops is None else _utilisation(recipe, flops, speed, machines),
        memory=job.world.gather(measured.memory),
        compile_seconds=measured.first - step.median if _parallel(recipe, "compile") else None,
        profile=measured.profile,
        roofline=() if flops is None else _roofline(recipe, job, machine, measured, flops, sizes),
        largest_batch=largest,
        losses=_losses(job),
        notes=list(_notes(recipe, job, text, counted=flops is not None)),
        environment=environment(job.world.device),
        command=command,
    )


def _sizes(job: Job, measured: Measured) -> Sizes:
    """What a step consists of, over all ranks."""
    counts, world = measured.counts, job.world
    each = torch.tensor([[c.scored, c.causal, c.rows] for c in counts], dtype=torch.float64)
    scored, causal, rows = world.sum(each.sum(0)).tolist()
    parameters = sum(local(p).numel() for p in job.root.parameters() if p.requires_grad)
    length = job.recipe.data.length
    return Sizes(
        rows=job.recipe.train.global_batch_size,
        micro_batches=job.batches.accumulation,
        length=length,
        vocab_size=job.tokenizer.vocab.size,
        parameters=sum(p.numel() for p in job.root.parameters()),
        updated_parameters=parameters,
        scored_share=scored / (rows * length),
        causal_share=causal / rows,
    )


def _flops(recipe: Recipe, sizes: Sizes) -> Flops | None:
    """FLOPs of a forward, or None where the network does not run without numbers."""
    try:
        return flops_per_token(
            cast("nn.Module", build_on_meta(recipe, sizes.vocab_size)),
            length=sizes.length,
            vocab_size=sizes.vocab_size,
            scored_share=sizes.scored_share,
            causal_share=sizes.causal_share,
            width=inputs_per_position(recipe),
        )
    except RecipeError:
        return None


def _utilisation(
    recipe: Recipe, flops: Flops, speed: float, machines: Sequence[Machine]
) -> Utilisation:
    kind = _parallel(recipe, "activation_checkpointing")
    again = None if kind == "selective" else 0.0
    if kind == "full":
        again = flops.blocks + flops.attention
    return utilisation(
        training_flops=flops.training,
        repeated_flops=again,
        tokens_per_second=speed,
        peaks=[machine.flops for machine in machines],
    )


def _roofline(
    recipe: Recipe, job: Job, machine: Machine, measured: Measured, flops: Flops, sizes: Sizes
) -> list[Part]:
    rows = sizes.rows // job.world.size
    numbers, width = layer_numbers(build_on_meta(recipe, sizes.vocab_size), sizes.length)
    work = Work(
        rows=rows,
        length=sizes.length,
        micro_batches=sizes.micro_batches,
        scored=rows * sizes.length * sizes.scored_share,
        flops=flops,
        numbers=numbers,
        width=width,
        vocab_size=sizes.vocab_size,
        parameters=sizes.updated_parameters,
        itemsize=matmul_dtype(recipe.train.precision).itemsize,
        ema=job.ema.active,
    )
    parts = {name: s for name, s in measured.profile.parts.items() if name != "other"}
    return roofline(
        work,
        machine,
        step=statistics.median(measured.steps),
        measured=parts,
        update=statistics.median(phases["update"] for phases in measured.phases),
    )


def _losses(job: Job) -> dict[int, float]:
    """As the log has them, on rank 0."""
    path = job.directory / METRICS
    lines = read_metrics(path) if job.world.rank == 0 and path.exists() else []
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def _notes(recipe: Recipe, job: Job, text: str, *, counted: bool) -> Iterator[str]:
    yield (
        "as in training, but without validation, checkpoints, diagnosis, evaluators and trackers; "
        "phases and profile are of steps of their own, after the timed ones"
    )
    if text == "synthetic":
        yield (
            "synthetic text: uniform random tokens from memory, so nothing is read from disk, the "
            "head's targets have no frequent tokens, and losses mean nothing"
        )
    if job.world.size > 1:
        yield (
            "communication: seconds in collective calls as the profiler has them, waiting for "
            "other ranks included; it overlaps with the phases, so it is not one of them"
        )
    if not counted:
        yield "FLOPs are not counted: the network does not run without numbers"
    if _parallel(recipe, "activation_checkpointing") == "selective":
        yield "hardware utilisation is not known: what is computed again is torch's choice"


def _parallel(recipe: Recipe, name: str) -> object:
    """An option of ``[parallel]``, or None where there is none of that name."""
    return getattr(recipe.parallel, name, None)
