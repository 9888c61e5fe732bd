"""Validation on the way, and what a run leaves at its end: numbers, samples, weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from safetensors.torch import save as to_safetensors

from mdmkit.diffusion import time_at_mask_rate
from mdmkit.evaluation.contexts import evaluation_context
from mdmkit.evaluation.driver import Result
from mdmkit.evaluation.evaluate import evaluate_live, validate
from mdmkit.evaluation.generate import Sample, generate_samples
from mdmkit.evaluation.recording import Recorder
from mdmkit.evaluation.run import weights_facts
from mdmkit.files import GO_ON, explained, write_atomic
from mdmkit.network import InferenceCall
from mdmkit.protocols import EvaluationContext
from mdmkit.recipe import dump_recipe, recipe_hash
from mdmkit.runs.folder import WEIGHTS
from mdmkit.samples_log import LoggedSamples, sampled_steps, write_samples
from mdmkit.training.distributed import full_state
from mdmkit.training.job import Job
from mdmkit.validation_log import write_validation

SAMPLES = 3
SEED = 0
"""Of their noise."""


@frozen(kw_only=True)
class RunResult:
    """What a run came to.

    Attributes:
        directory: where everything is.
        step: optimizer steps done.
        results: of each evaluator of the recipe, by label.
        samples: a few generated texts.
    """

    directory: Path
    step: int
    results: Mapping[str, Result]
    samples: Sequence[Sample]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "directory": str(self.directory),
            "step": self.step,
            "results": {label: result.to_json() for label, result in self.results.items()},
            "samples": [attrs.asdict(sample) for sample in self.samples],
        }


def validate_job(job: Job) -> None:
    """Measure the NELBO on the validation split, with the averaged weights where there are any."""
    with job.ema.applied():
        found = validate(job.recipe, evaluation_of(job))
    job.validated = job.step
    nelbo, table = found.nelbo, found.table
    job.log({"val/nelbo_per_token": nelbo.value, "val/nelbo_per_token_stderr": nelbo.stderr})
    job.reporter.validation(job.step, nelbo)
    if job.world.rank == 0:
        provenance = {**found.provenance, "ema": job.ema.active}
        write_validation(job.directory, job.step, table, provenance)
    learn = getattr(job.live.time_sampler, "validated", None)
    if learn is not None and job.step > 0:  # an untrained network has nothing to say of times
        masked, tokens = table.masked.flatten(), table.tokens.flatten()
        some = masked > 0
        rate = masked[some] / tokens[some]
        t = time_at_mask_rate(job.live.noise_schedule.alpha, rate)
        # a draw is the sum over its masked tokens, scaled up to all
        learn(t, table.nats.flatten()[some] * rate, masked[some])


def finish(job: Job) -> RunResult:
    """Export, evaluate and sample the trained network; every rank takes part."""
    recipe, world, reporter = job.recipe, job.world, job.reporter
    reporter.close()
    facts = weights_facts(
        run=recipe.run.name,
        recipe_hash=recipe_hash(recipe),
        step=job.step,
        ema=job.ema.active,
        precision=recipe.train.precision,
    )
    context = evaluation_of(job)
    with job.ema.applied():
        _export(job, facts)  # first: no evaluator and no sampler can cost the weights
        results = evaluate_live(recipe, context, facts=facts, directory=job.directory)
        samples = _sample(job, context)
    if world.rank == 0:
        reporter.summary(job.directory, results, samples)
    return RunResult(directory=job.directory, step=job.step, results=results, samples=samples)


def sample_job(job: Job) -> None:
    """Generate a few texts on the way and keep them, unless there are some; every rank takes part.

    Where that fails, on any rank, it costs these texts and not the training; the reporter is told.
    """
    world, problem = job.world, ""
    if world.share(world.rank == 0 and job.step in sampled_steps(job.directory)):
        return  # the run goes on from here
    try:
        with job.ema.applied():
            _sample(job, evaluation_of(job))
    except Exception as error:  # a sampler is anybody's
        problem = f"{type(error).__name__}: {error}"
    # Not over the group of the network's own calls: the other ranks may still be in one of them.
    beside = attrs.evolve(world, group=world.patient or world.group)
    problem = next(filter(None, beside.gather(problem)), "")
    if problem and problem != job.unsampled:
        job.reporter.notify(
            f"step {job.step}: no texts were generated on the way, the training goes on ({problem})"
        )
    job.unsampled = problem


def _sample(job: Job, context: EvaluationContext) -> list[Sample]:
    """A few texts, which are kept in the run directory with their states."""
    recipe = job.recipe
    record = Recorder(job.tokenizer) if job.world.rank == 0 else None
    samples = generate_samples(
        recipe, context.generate, job.tokenizer, n=SAMPLES, seed=SEED, record=record
    )
    if record is not None:
        logged = LoggedSamples(
            step=job.step,
            ema=job.ema.active,
            sampler=dump_recipe(recipe)["sampler"],
            seed=SEED,
            vocab_size=job.tokenizer.vocab.size,
            samples=record.logged(dict(enumerate(samples))),
        )
        write_samples(job.directory, logged)
    return samples


def _export(job: Job, facts: Mapping[str, Any]) -> None:
    """Write the weights, whole, as one file; every rank takes part."""
    weights = full_state(job.root.denoiser, job.world)
    if job.world.rank == 0:
        metadata = {"format": "pt", "facts": json.dumps(facts)}
        with explained(job.directory / WEIGHTS, GO_ON):
            write_atomic(job.directory / WEIGHTS, to_safetensors(weights, metadata))


def evaluation_of(job: Job) -> EvaluationContext:
    """What evaluators get of a job: its network as it is at this moment."""
    world = job.world
    return evaluation_context(
        job.recipe,
        job.live,
        job.tokenizer,
        call=InferenceCall(job.root, world.device, job.recipe.train.precision),
        blocks=job.blocks,
        device=world.device,
        rank=world.rank,
        world_size=world.size,
        runs_dir=job.directory.parent,
        step=job.step,
    )
