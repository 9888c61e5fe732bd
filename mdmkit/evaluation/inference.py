"""A network made ready to generate: samplers run on it, its blocks are compiled."""

from __future__ import annotations

import torch

from mdmkit.errors import RecipeError
from mdmkit.generation import LiveGenerate
from mdmkit.network import Root
from mdmkit.protocols import NetworkCall, NoiseSchedule
from mdmkit.recipe import Recipe
from mdmkit.training.parallel import blocks_of, compile_blocks
from mdmkit.values import Vocabulary


def live_generate(
    recipe: Recipe,
    vocab: Vocabulary,
    noise_schedule: NoiseSchedule,
    call: NetworkCall,
    device: torch.device,
) -> LiveGenerate:
    """Runs samplers on the network of a recipe."""
    return LiveGenerate(
        call=call,
        vocab=vocab,
        noise_schedule=noise_schedule,
        length=recipe.data.length,
        device=device,
        supports=recipe.denoiser.supports,
    )


def compile_network(root: Root, recipe: Recipe) -> None:
    """Have each block of the denoiser compiled by torch.compile.

    Raises:
        RecipeError: where it lists no blocks, or generates one token after the other.
    """
    blocks = blocks_of(root.denoiser)
    if not blocks:
        raise RecipeError("compile: the denoiser of this run lists no blocks; leave it out")
    if recipe.objective.prediction != "masked":
        raise RecipeError(
            "compile: is for networks that predict masked tokens; token after token a text grows, "
            "and every length would be compiled by itself; leave it out"
        )
    compile_blocks(blocks)
