"""A folder that ``mdmkit export`` made, back to a run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mdmkit import DataError, Recipe, load_recipe, write_run
from mdmkit.values import Vocabulary
from mdmkit_hf.importing.recipes import recipe_of
from mdmkit_hf.importing.tensors import StoredTensors, open_safetensors, read_json

MANIFEST = "mdmkit.json"
KIND = "mdmkit export"
FORMAT = 1
_REGISTERED = 4
"""How often a network may register its parameters: ties and replacements do it again."""
_ROLES = ("mask", "bos", "eos", "pad")


@frozen(kw_only=True, eq=False)
class ExportedFolder:
    """What a folder holds.

    Attributes:
        folder: it.
        recipe: of the run that was exported, with overrides laid over it.
        tokenizer: of the run.
        weights: in float32, by the names of the denoiser.
        facts: of its ``mdmkit.json``.
        files: sha256 of the files of weights, by name.
    """

    folder: Path
    recipe: Recipe
    tokenizer: Any
    weights: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    files: Mapping[str, str]

    def write(self, target: Path, known: Mapping[str, Any]) -> Path:
        """Make the run directory `target`; `known` is said of the source, too."""
        return write_run(
            target,
            self.recipe,
            weights=self.weights,
            tokenizer=self.tokenizer,
            step=self.facts["step"],
            ema=self.facts["ema"],
            source={"kind": KIND, **known, "export": dict(self.facts), "sha256": dict(self.files)},
        )


def read_exported(folder: Path, overrides: Sequence[str] = ()) -> ExportedFolder:
    """Read a folder, checking names and shapes of its weights in both directions.

    Raises:
        DataError: where a file is missing, damaged or not of the others.
        RecipeError: where the recipe is not valid here (a plugin is missing, say).
    """
    facts = _facts(folder / MANIFEST)
    recipe = load_recipe(folder / "recipe.toml", list(overrides))
    tokenizer = _tokenizer(folder, facts)
    stored = open_safetensors(folder)
    if stored is None:
        raise DataError(f"{folder}: has no model.safetensors, in one file or with an index")
    network = _sketched(recipe, tokenizer.vocab, stored)
    theirs = _stored_names(network, facts["weights"])
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored.require({theirs[name]: shape for name, shape in shapes.items()})
    weights = {name: _wide(stored.read(theirs[name])) for name in shapes}
    files = {}
    for path in stored.files:
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFolder(
        folder=folder,
        recipe=recipe,
        tokenizer=tokenizer,
        weights=weights,
        facts=facts,
        files=files,
    )


def _sketched(recipe: Recipe, vocab: Vocabulary, stored: StoredTensors) -> nn.Module:
    """The network on the meta device, given up where it outgrows the tensors of the folder.

    Raises:
        DataError: where it does: a recipe can ask for more layers than any memory has room for.
    """
    most, made = _REGISTERED * (len(stored.shapes) + 4), itertools.count(1)

    def watch(*_: object) -> None:
        if next(made) > most:
            raise DataError(
                f"{stored.where}: {len(stored.shapes)} tensors; the network of the recipe has "
                "several times as many: export the run again"
            )

    watching = register_module_parameter_registration_hook(watch)
    try:
        with torch.device("meta"):
            return recipe.denoiser.build(vocab)
    finally:
        watching.remove()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _stored_names(network: nn.Module, weights: Mapping[str, Any]) -> dict[str, str]:
    """The name in the file of each tensor of the network; tied ones share one."""
    from mdmkit_hf.auto import tied_names

    prefix, own = weights["prefix"], weights["own"]
    tied = tied_names(network)

    def stored(name: str) -> str:
        name = tied.get(name, name)
        return f"{prefix}{name}" if own else name.removeprefix(prefix)

    return {name: stored(name) for name in network.state_dict()}


def _facts(path: Path) -> Mapping[str, Any]:
    facts: dict[str, Any] = dict(read_json(path, what="the facts of an export"))
    if facts.get("kind") != KIND or facts.get("format") != FORMAT:
        raise DataError(
            f"{path}: is {facts.get('kind')!r}, format {facts.get('format')!r}; expected {KIND!r}, "
            f"format {FORMAT}"
        )
    weights, special = facts.get("weights"), facts.get("special_tokens")
    whole = (
        type(facts.get("step")) is int
        and isinstance(facts.get("ema"), bool)
        and isinstance(weights, dict)
        and isinstance(weights.get("prefix"), str)
        and isinstance(weights.get("own"), bool)
        and isinstance(special, dict)
        and "mask" in special
        and all(role in _ROLES and isinstance(token, str) for role, token in special.items())
    )
    if not whole:
        raise DataError(f"{path}: not as `mdmkit export` writes it; export the run again")
    return facts


def _tokenizer(folder: Path, facts: Mapping[str, Any]) -> Any:
    """The folder's tokenizer, whatever the recipe would build."""
    path = folder / "tokenizer.json"
    special = cast("dict[str, str]", facts["special_tokens"])
    table = {"use": "json", "path": str(path), **special}
    data = recipe_of({"data": {"tokenizer": table}}, where=str(folder / MANIFEST)).data
    return data.tokenizer.build(data.corpus)
