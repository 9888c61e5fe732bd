"""A run directory as training leaves it, with random weights, in a second."""

from __future__ import annotations

from pathlib import Path

import torch

from mdmkit.data.blocks import build_tokenizer
from mdmkit.draws import generator
from mdmkit.files import write_json
from mdmkit.network import build_root
from mdmkit.recipe import Recipe, dump_recipe, load_recipe, recipe_hash
from mdmkit.training.distributed import World
from mdmkit.training.saving import save_checkpoint

RECIPE = """
[run]
name = "tiny"
[data]
length = 16
[data.corpus]
use = "text"
train = "{text}"
validation = "{text}"
test = "{text}"
document = "line"
[data.tokenizer]
use = "bpe"
vocab_size = 258
[denoiser]
use = "dit"
width = 8
depth = 1
heads = 2
[train]
steps = 6
global_batch_size = 64
precision = "fp32"
[learning_rate]
warmup_steps = 2
"""
EVALUATORS = """
[evaluators.nelbo]
use = "nelbo"
[evaluators.twice]
use = "nelbo"
split = "test"
draws = 2
"""


def write_recipe(folder: Path, extra: str = EVALUATORS) -> Recipe:
    text = folder / "text.txt"
    text.write_text("".join(f"line {i}: {i * i} is the square of {i}.\n" for i in range(16)))
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(text=text) + extra)
    return load_recipe(path)


def make_run(folder: Path, extra: str = EVALUATORS, steps: tuple[int, ...] = (3, 6)) -> Path:
    """``folder/runs/tiny-…`` with a checkpoint, of other weights, for each of `steps`."""
    recipe = write_recipe(folder, extra)
    directory = folder / "runs" / f"tiny-{recipe_hash(recipe)}"
    (directory / "checkpoints").mkdir(parents=True)
    write_json(directory / "resolved.json", dump_recipe(recipe))
    tokenizer = build_tokenizer(recipe.data)
    tokenizer.save(directory / "tokenizer.json")
    device = torch.device("cpu")
    root = build_root(recipe, tokenizer.vocab, device)
    for step in steps:
        tensors = {}
        for kind in ("model", "ema"):
            source = generator(kind, step)
            tensors |= {
                f"{kind}/{name}": 0.3 * torch.randn(value.shape, generator=source)
                for name, value in root.state_dict().items()
            }
        save_checkpoint(directory, step, tensors, {}, world=World(device=device), keep=0)
    return directory
