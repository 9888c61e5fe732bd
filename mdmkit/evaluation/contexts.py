"""What evaluators get, from a live network or a saved run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mdmkit.data.cache import Notify, ignore
from mdmkit.draws import StepDraws
from mdmkit.evaluation.inference import live_generate
from mdmkit.evaluation.other_run import other_run
from mdmkit.evaluation.run import TrainedRun
from mdmkit.evaluation.session import rows_at_once
from mdmkit.network import Live, LiveGradient
from mdmkit.protocols import (
    BlockSource,
    Draws,
    EvaluationContext,
    GradientCall,
    NetworkCall,
    Split,
    Tokenizer,
)
from mdmkit.recipe import Recipe


def trained_context(
    trained: TrainedRun,
    *,
    blocks: Callable[[Split], BlockSource] | None = None,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
) -> EvaluationContext:
    """What evaluators get of a saved run; other runs are looked for beside it.

    Args:
        trained: the run.
        blocks: opens a split; as the run does by default.
        rank, world_size, batch_size, seed: as for `evaluation_context`.
    """
    return evaluation_context(
        trained.recipe,
        trained.live,
        trained.tokenizer,
        call=trained.call,
        blocks=blocks or trained.blocks,
        device=trained.device,
        rank=rank,
        world_size=world_size,
        batch_size=batch_size,
        seed=seed,
        runs_dir=trained.directory.parent,
        notify=trained.notify,
        cache_dir=trained.cache_dir,
        gradient=LiveGradient(trained.call.root, trained.device, trained.precision),
        step=trained.step,
    )


def evaluation_context(
    recipe: Recipe,
    live: Live,
    tokenizer: Tokenizer,
    *,
    call: NetworkCall,
    blocks: Callable[[Split], BlockSource],
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    runs_dir: str | Path | None = None,
    notify: Notify = ignore,
    cache_dir: Path | None = None,
    gradient: GradientCall | None = None,
    step: int | None = None,
) -> EvaluationContext:
    """What evaluators get, from the parts of a run.

    Args:
        recipe: the run's.
        live: its live components.
        tokenizer: its tokenizer.
        call: runs a function of the denoiser, with the weights that are to be measured.
        blocks: opens a split.
        device: where the network lives.
        rank, world_size: this process among those that evaluate.
        batch_size: rows a network call; as in training by default.
        seed: of the evaluation.
        runs_dir: the folder in which other runs are looked for.
        notify: is told of them what takes long, and what is damaged.
        cache_dir: where their tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.
        gradient: differentiates functions of the denoiser, where one process has all of it.
        step: the optimizer steps behind its weights.
    """
    opener = partial(
        other_run, runs_dir=runs_dir, device=device, notify=notify, cache_dir=cache_dir
    )
    return EvaluationContext(
        call=call,
        objective=live.objective,
        prediction=recipe.objective.prediction,
        noise_schedule=live.noise_schedule,
        tokenizer=tokenizer,
        sampler=recipe.sampler,
        blocks=blocks,
        draws=_draws,
        generate=live_generate(recipe, tokenizer.vocab, live.noise_schedule, call, device),
        open_run=opener,
        batch_size=batch_size or rows_at_once(recipe),
        length=recipe.data.length,
        device=device,
        rank=rank,
        world_size=world_size,
        seed=seed,
        trained_length=recipe.data.length,
        length_multiple=recipe.denoiser.length_multiple,
        training=live.training,
        corpus=recipe.data.corpus,
        gradient=gradient if world_size == 1 else None,
        step=step,
    )


def _draws(seed: int, step: int, rows: torch.Tensor, global_rows: int) -> Draws:
    return StepDraws(seed=seed, step=step, rows=rows, global_rows=global_rows)
