"""A run directory for weights that were trained elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mdmkit.data.blocks import build_tokenizer
from mdmkit.data.text_tokenizer import TextTokenizer
from mdmkit.errors import CheckpointError
from mdmkit.evaluation.run import TOKENIZER, load_into, weights_facts
from mdmkit.files import explained, whole_folder, write_atomic, write_json
from mdmkit.network import build_root
from mdmkit.recipe import Recipe, dump_recipe, recipe_hash, recipe_toml
from mdmkit.runs.folder import IMPORTED, RESOLVED, WEIGHTS


def write_run(
    directory: str | Path,
    recipe: Recipe,
    *,
    weights: Mapping[str, Tensor],
    source: Mapping[str, Any],
    tokenizer: TextTokenizer | None = None,
    step: int = 0,
    ema: bool = False,
) -> Path:
    """Make a run of weights from elsewhere, for ``mdmkit eval``, ``sample`` and the like.

    The directory is there as a whole or not at all.

    Args:
        directory: to be made.
        recipe: whose denoiser the weights are for; its corpus need not be at hand.
        weights: by name, as in the ``state_dict`` of the denoiser.
        source: where they come from, as plain JSON; kept as ``imported.json``.
        tokenizer: of the run; by default that of the recipe is built.
        step: the optimizer steps behind the weights.
        ema: whether they are an average over training.

    Returns:
        The directory.

    Raises:
        CheckpointError: where the directory is there already or cannot be written, the weights do
            not fit the network (every name is checked, both ways) or are no finite floats, or
            `source` or `step` cannot be kept.
        DataError: where the tokenizer cannot be had.
    """
    target = Path(directory)
    if os.path.lexists(target):
        raise CheckpointError(f"{target}: is there already; choose another place, or remove it")
    if step < 0:
        raise CheckpointError(f"{target}: step: expected at least 0, got {step}")
    about = _as_json(source, f"{target}: source")
    tokenizer = build_tokenizer(recipe.data) if tokenizer is None else tokenizer
    root = build_root(recipe, tokenizer.vocab, torch.device("cpu"), "fp32")
    named = {f"denoiser.{name}": tensor for name, tensor in weights.items()}
    where = f"{target}, weights to be imported"
    load_into(root, named, where=where)
    _require_numbers(root, named, where)
    facts = weights_facts(
        run=recipe.run.name,
        recipe_hash=recipe_hash(recipe),
        step=step,
        ema=ema,
        precision=recipe.train.precision,
    )
    with explained(target, "make room, or choose another place"), whole_folder(target) as folder:
        tokenizer.save(folder / TOKENIZER)
        write_atomic(folder / "recipe.toml", recipe_toml(recipe))
        write_json(folder / RESOLVED, dump_recipe(recipe))
        write_atomic(folder / IMPORTED, about)
        whole = {name: _own(tensor) for name, tensor in weights.items()}
        save_file(whole, folder / WEIGHTS, {"format": "pt", "facts": json.dumps(facts)})
    return target


def _as_json(source: Mapping[str, Any], where: str) -> bytes:
    try:
        text = json.dumps(dict(source), indent=2, allow_nan=False, ensure_ascii=False)
        return f"{text}\n".encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: cannot be kept as JSON ({error})") from error


def _require_numbers(root: nn.Module, given: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that the network, which has been filled with them, cannot compute with."""
    for name, tensor in root.state_dict().items():
        if tensor.is_floating_point() and not given[name].is_floating_point():
            raise CheckpointError(f"{where}: {name}: expected floats, got {given[name].dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{where}: {name}: holds values that are not finite")


def _own(tensor: Tensor) -> Tensor:
    """A copy with dense memory of its own, as safetensors wants; a tied weight has two names."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
