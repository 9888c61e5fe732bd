"""A run directory back to a live network."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.data.blocks import DataTable, open_blocks, token_counts
from mdmkit.data.cache import Notify, ignore
from mdmkit.data.text_tokenizer import TextTokenizer, load_tokenizer
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.inference import compile_network, live_generate
from mdmkit.generation import LiveGenerate
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.network import (
    InferenceCall,
    Live,
    bring_to_life,
    build_root,
    choose_device,
    sketch_root,
)
from mdmkit.plain_files import read_json
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.problems import found
from mdmkit.protocols import BlockSource, RunFacts, Split
from mdmkit.recipe import Recipe, recipe_from_dict, recipe_hash
from mdmkit.recipe_files import Document, parse_overrides
from mdmkit.runs.folder import RESOLVED, require_own_files
from mdmkit.training.exported import saved_weights

TOKENIZER = "tokenizer.json"
PRECISIONS = ("bf16", "fp32")


@frozen(kw_only=True, eq=False)
class TrainedRun:
    """A run, loaded for use.

    Attributes:
        directory: where it is.
        recipe: as it was trained, with the overrides laid over it.
        recipe_hash: of the recipe as it was trained.
        tokenizer: its tokenizer.
        live: its components.
        call: runs a function of the denoiser.
        device, precision: with which `call` computes.
        notify, cache_dir: for the text that is opened.
        step: the optimizer steps behind the weights.
        ema: whether the weights are the averaged ones.
    """

    directory: Path
    recipe: Recipe
    recipe_hash: str
    tokenizer: TextTokenizer
    live: Live
    call: InferenceCall
    device: torch.device
    precision: str
    step: int
    ema: bool
    notify: Notify
    cache_dir: Path | None

    def blocks(self, split: Split) -> BlockSource:
        """A split of its corpus, in its packing."""
        return self.open(self.recipe.data, split)

    def open(self, data: DataTable, split: Split) -> BlockSource:
        """A split of any text as blocks of this run's tokens."""
        return open_blocks(
            data, split, tokenizer=self.tokenizer, notify=self.notify, cache_dir=self.cache_dir
        )

    def weights_sha256(self) -> str:
        """A hash of the weights that are measured, whatever file they came from."""
        hasher = hashlib.sha256()
        for name, tensor in sorted(self.call.root.state_dict().items()):
            plain = tensor.detach().cpu().contiguous()
            hasher.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        return hasher.hexdigest()

    @property
    def generate(self) -> LiveGenerate:
        """Runs a sampler on its network."""
        return live_generate(
            self.recipe, self.tokenizer.vocab, self.live.noise_schedule, self.call, self.device
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What provenance says of the weights."""
        return weights_facts(
            run=self.recipe.run.name,
            recipe_hash=self.recipe_hash,
            step=self.step,
            ema=self.ema,
            precision=self.precision,
        )


def open_trained(
    directory: Path,
    *,
    overrides: Sequence[str] = (),
    tables: Collection[str] = (),
    checkpoint: int | None = None,
    ema: bool = True,
    device: str = "auto",
    precision: str | None = None,
    compile: bool = False,
    notify: Notify = ignore,
    cache_dir: Path | None = None,
    catalogue: Catalogue | None = None,
) -> TrainedRun:
    """Load a run.

    Args:
        directory: from `find_run`.
        overrides: ``table.key=value``, laid over the run's recipe.
        tables: the tables that overrides may change.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        precision: ``bf16`` or ``fp32``; the run's own by default.
        compile: each block of the network by torch.compile.
        notify: is told what takes long.
        cache_dir: where tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.
        catalogue: the components to choose from; all installed ones by default.

    Raises:
        CheckpointError: where the run, its recipe or its weights cannot be read or do not fit.
        RecipeError: for an override that is not allowed or not valid.
        DataError: where its tokenizer cannot be read.
    """
    catalogue = catalogue or load_catalogue()
    trained = read_recipe(directory, catalogue=catalogue)
    recipe = read_recipe(directory, overrides, tables, catalogue=catalogue)
    precision = precision or recipe.train.precision
    if precision not in (*PRECISIONS, recipe.train.precision):
        raise RecipeError(f'dtype: expected bf16 or fp32, got "{precision}"')
    weights = saved_weights(directory, step=checkpoint, ema=ema, notify=notify)
    tokenizer = load_tokenizer(directory / TOKENIZER)
    target = choose_device(device)
    where = f"{directory}, step {weights.step}"
    sketch = sketch_root(recipe, tokenizer.vocab)
    if sketch is not None:
        require_fit(sketch, weights.fit(sketch), where=where)
    root = build_root(recipe, tokenizer.vocab, target, precision)
    load_into(root, weights.fit(root), where=where)
    if compile:
        compile_network(root, recipe)

    def train_counts() -> Tensor:
        train = open_blocks(
            recipe.data, "train", tokenizer=tokenizer, notify=notify, cache_dir=cache_dir
        )
        return token_counts(train, tokenizer.vocab.size)

    facts = RunFacts(
        vocab=tokenizer.vocab,
        length=recipe.data.length,
        steps=recipe.train.steps,
        global_batch_size=recipe.train.global_batch_size,
        learning_rate=learning_rate_fraction(recipe.learning_rate, recipe.train.steps),
        token_counts=train_counts,
    )
    return TrainedRun(
        directory=directory,
        recipe=recipe,
        recipe_hash=recipe_hash(trained, catalogue),
        tokenizer=tokenizer,
        live=bring_to_life(recipe, facts),
        call=InferenceCall(root, target, precision),
        device=target,
        precision=precision,
        notify=notify,
        cache_dir=cache_dir,
        step=weights.step,
        ema=weights.ema,
    )


def open_run(
    run: str | Path,
    *,
    runs_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    tables: Collection[str] = ("evaluators", "sampler"),
    checkpoint: int | None = None,
    ema: bool = True,
    device: str = "auto",
    precision: str | None = None,
    compile: bool = False,
    notify: Notify = ignore,
) -> TrainedRun:
    """Load a run by its path or name, to measure it or to generate with it.

    Args:
        run, runs_dir: as for `find_run`.
        overrides, tables, checkpoint, ema, device, precision, compile, notify: as for
            `open_trained`.

    Raises:
        MdmkitError: as these two do.
    """
    return open_trained(
        find_run(run, runs_dir),
        overrides=overrides,
        tables=tables,
        checkpoint=checkpoint,
        ema=ema,
        device=device,
        precision=precision,
        compile=compile,
        notify=notify,
    )


def read_recipe(
    directory: Path,
    overrides: Sequence[str] = (),
    tables: Collection[str] | None = None,
    *,
    catalogue: Catalogue | None = None,
) -> Recipe:
    """The recipe of a run, with `overrides` laid over it.

    Args:
        directory: of the run.
        overrides: ``table.key=value``.
        tables: the only ones that overrides may change; None: any.
        catalogue: the components to choose from; all installed ones by default.

    Raises:
        CheckpointError: where the saved recipe cannot be read.
        RecipeError: where it is not valid here (a plugin is missing, say), or an override is
            not, or goes to another table.
    """
    require_own_files(directory)
    path = directory / RESOLVED
    try:
        saved = read_json(path)
        if not isinstance(saved, dict):
            raise ValueError(f"it is {found(saved)}")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); expected a run's recipe"
        ) from error
    catalogue = catalogue or load_catalogue()
    if not overrides:
        return recipe_from_dict(saved, where=str(path), catalogue=catalogue)
    over = parse_overrides(overrides)
    for table in over.data:
        if tables is not None and table not in tables:
            raise RecipeError(
                f"--set: [{table}] is fixed once a run is trained; here only "
                f"{' and '.join(tables)} may be changed"
            )
    merged = Document.of(saved, str(path)).overlaid(over, default_uses={})  # every use is written
    return recipe_from_dict(merged.data, where="--set", catalogue=catalogue)


def weights_facts(
    *, run: str, recipe_hash: str, step: int, ema: bool, precision: str
) -> dict[str, Any]:
    """What provenance says of the weights that were measured.

    Args:
        run: the run's name.
        recipe_hash: of the recipe that was trained.
        step: the optimizer steps behind the weights.
        ema: whether they are the averaged ones.
        precision: in which the network computed.
    """
    return {
        "run": {"name": run, "recipe_hash": recipe_hash},
        "checkpoint": {"step": step, "ema": ema},
        "precision": precision,
    }


def load_into(root: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Fill the network, saying in words what does not fit.

    Raises:
        CheckpointError: where names or shapes differ.
    """
    require_fit(root, state, where=where)
    root.load_state_dict(dict(state))


def require_fit(root: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse a state that is not of this network.

    Raises:
        CheckpointError: where names or shapes differ.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in root.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    problems = [
        f"  {name}: the weights have {found.get(name, 'nothing')}, the network "
        f"{wanted.get(name, 'nothing')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if problems:
        more = [f"  and {len(problems) - 5} more"] if len(problems) > 5 else []
        first = f"{where}: the weights do not fit the network of the recipe:"
        last = "Recipe, tokenizer and checkpoints must be those that were written together."
        raise CheckpointError("\n".join([first, *problems[:5], *more, last]))
