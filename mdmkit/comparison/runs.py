"""What a comparison reads of a run directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import frozen

from mdmkit.comparison.flops import forward_flops, loss_share
from mdmkit.comparison.resampling import Integers
from mdmkit.comparison.smoothing import Floats
from mdmkit.data.text_tokenizer import load_tokenizer
from mdmkit.errors import CheckpointError, DataError, RecipeError
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import TOKENIZER, read_recipe
from mdmkit.metrics_log import METRICS, Column, MetricColumns, read_columns
from mdmkit.plain_files import read_json
from mdmkit.plugins import Catalogue
from mdmkit.recipe import dump_recipe, plain_hash
from mdmkit.training.branch import read_branch
from mdmkit.training.run_directory import (
    RESOLVED,
    require_own_files,
    require_tables,
    runs_root,
)
from mdmkit.validation_log import LoggedValidation, logged_steps, read_validation

AXES = ("steps", "tokens", "flops", "seconds")


@frozen(kw_only=True, eq=False)
class Table:
    """A validation's blocks, draw by draw, common to all validations of a run.

    Attributes:
        blocks, documents: ``[N]``.
        tokens: ``[N, n]``, the scored tokens of a block, for each draw.
        masked: ``[N, n]``, how many of them were masked.
    """

    blocks: Integers
    documents: Integers
    tokens: Floats
    masked: Floats


@frozen(kw_only=True, eq=False)
class LoadedRun:
    """A run's validations and what they cost.

    Attributes:
        directory: where it is.
        recipe: as plain data, with the defaults of this version filled in.
        recipe_hash: of the recipe as it was saved.
        steps: ``[K]``, of the validations.
        nats: ``[K, N, n]``, of each validation, block and draw.
        table: what was measured.
        provenance: of the last validation.
        costs: by axis (`AXES`), ``[K]``: what training had cost at each validation. ``flops`` is
            absent where it cannot be counted.
        loss_share: which share of positions the FLOPs were counted with, in words.
        metrics: what it logged.
        branch: where it branched off, or None.
    """

    directory: Path
    recipe: Mapping[str, Any]
    recipe_hash: str
    steps: Integers
    nats: Floats
    table: Table
    provenance: Mapping[str, Any]
    costs: Mapping[str, Floats]
    loss_share: str | None
    metrics: MetricColumns
    branch: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The run's name in its recipe."""
        return str(self.recipe["run"]["name"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.recipe["run"]["seed"])

    @property
    def peak(self) -> float:
        """The peak of the learning rate."""
        return float(self.recipe["learning_rate"]["peak"])

    @property
    def budget(self) -> int:
        """The steps that the recipe asks for."""
        return int(self.recipe["train"]["steps"])

    @property
    def cooldown(self) -> float:
        """The step at which a constant learning rate begins to decay; inf without such a one."""
        options = self.recipe["learning_rate"]
        if options["shape"] != "wsd":
            return math.inf
        return round(self.budget * (1 - float(options["decay_fraction"])))

    @property
    def finished(self) -> bool:
        """Whether it was validated after its last step."""
        return int(self.steps[-1]) == self.budget

    @property
    def exact(self) -> bool:
        """Whether the validation is an exact NLL, without masks."""
        return bool(self.provenance.get("exact", False))

    @property
    def curve(self) -> Floats:
        """NELBO per token at each validation, ``[K]``."""
        found: Floats = self.nats.mean(-1).sum(-1) / self.table.tokens.mean(-1).sum()
        return found


def find_runs(names: Sequence[str | Path], runs_dir: str | Path | None = None) -> list[Path]:
    """The run directories that `names` mean, each once, in that order.

    Args:
        names: a run directory or its name, a folder with runs in it at any depth, or a run's
            name without the hash, which stands for all runs of that name.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.

    Raises:
        CheckpointError: where a name means no run.
    """
    root = runs_root(runs_dir)
    found: dict[Path, Path] = {}
    for name in names:
        fitting = _runs_of(name, root) or [find_run(name, runs_dir)]
        found |= {path.resolve(): path for path in fitting if path.resolve() not in found}
    return list(found.values())


def _runs_of(name: str | Path, root: Path) -> list[Path]:
    for place in (Path(name), root / name):
        if (place / RESOLVED).is_file():
            return [place]
        if place.is_dir() and (inside := sorted(place.rglob(RESOLVED))):
            return [path.parent for path in inside]
    there = sorted(path.parent for path in root.glob(f"*/{RESOLVED}"))
    return [path for path in there if path.name.rpartition("-")[0] == str(name)]


def load_run(
    directory: Path,
    *,
    catalogue: Catalogue,
    notify: Callable[[str], object],
    metrics: MetricColumns | None = None,
    validations: Sequence[LoggedValidation] = (),
) -> LoadedRun:
    """Read everything a comparison needs of a run.

    Args:
        directory: of the run.
        catalogue: the components to choose from.
        notify: is told what is left out.
        metrics, validations: what has been read of it already, whole.

    Raises:
        CheckpointError: where it has fewer than two validations by block, or a file is damaged.
    """
    require_own_files(directory)
    logged = validations or [read_validation(directory, s) for s in logged_steps(directory)]
    steps = [validation.step for validation in logged]
    if not steps:
        raise CheckpointError(
            f"{directory}: has no validation by block (files validation/step-….safetensors); a "
            "comparison is made from them. Every validation of mdmkit run writes one; a run of an "
            "older version must be trained again"
        )
    metrics = _metrics(directory) if metrics is None else metrics
    plain, costs, share = _recipe_and_costs(directory, np.array(steps), metrics, catalogue, notify)
    table = _common_table(directory, logged)
    nats = np.stack([validation.table.nats.numpy() for validation in logged])
    if not np.isfinite(nats).all():
        raise CheckpointError(f"{directory}: a validation is not finite; the run diverged")
    loaded = LoadedRun(
        directory=directory,
        recipe=plain,
        recipe_hash=_hash(directory),
        steps=np.array(steps, dtype=np.int64),
        nats=nats,
        table=table,
        provenance=logged[-1].provenance,
        costs=costs,
        loss_share=share,
        metrics=metrics,
        branch=read_branch(directory),
    )
    try:
        _ = loaded.name, loaded.seed, loaded.peak, loaded.budget, loaded.cooldown
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{directory / RESOLVED}: is no recipe of a run ({type(error).__name__}: {error})"
        ) from error
    return loaded


def _metrics(directory: Path) -> MetricColumns:
    try:
        return read_columns(directory / METRICS)
    except OSError as error:
        raise CheckpointError(
            f"{directory / METRICS}: cannot be read ({error.strerror}); it says what a run cost"
        ) from error


def _recipe_and_costs(
    directory: Path,
    steps: Integers,
    metrics: MetricColumns,
    catalogue: Catalogue,
    notify: Callable[[str], object],
) -> tuple[dict[str, Any], dict[str, Floats], str | None]:
    """The recipe as plain data, and what training had cost at each validation."""
    known = {axis: first_of_steps(metrics[axis]) for axis in ("tokens", "seconds")}
    if not all(len(at) for at, _ in known.values()):
        raise CheckpointError(
            f"{directory / METRICS}: no line has tokens and seconds; they say what a run cost"
        )
    costs = {
        "steps": steps.astype(np.float64),
        **{axis: np.interp(steps, at, values) for axis, (at, values) in known.items()},
    }
    try:
        recipe = read_recipe(directory, catalogue=catalogue)
        plain = dump_recipe(recipe, catalogue)
        vocab = load_tokenizer(directory / TOKENIZER).vocab
    except (RecipeError, DataError) as error:
        notify(f"{directory}: no FLOPs, since its recipe or tokenizer cannot be used here: {error}")
        return _saved(directory), costs, None
    flops = forward_flops(recipe, vocab)
    if flops is None:
        notify(f"{directory}: no FLOPs, since its denoiser does not run on torch's meta device")
        return plain, costs, None
    share, rows, length = (
        loss_share(recipe, metrics),
        recipe.train.global_batch_size,
        recipe.data.length,
    )
    costs["flops"] = share.cumulative(
        lambda part: flops.step(rows=rows, length=length, share=part), costs["steps"]
    )
    return plain, costs, share.source


def first_of_steps(column: Column) -> tuple[Integers, Floats]:
    """The rising steps of a figure, and what it first was at each: before its validation."""
    steps, places = np.unique(np.asarray(column.steps, dtype=np.int64), return_index=True)
    return steps, np.asarray(column.values, dtype=np.float64)[places]


def _saved(directory: Path) -> dict[str, Any]:
    try:
        saved = read_json(directory / RESOLVED)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory / RESOLVED}: cannot be read ({error})") from error
    require_tables(saved, directory / RESOLVED)
    return dict(saved)


def _hash(directory: Path) -> str:
    """As `mdmkit.recipe.recipe_hash`, of the recipe as it was saved."""
    return plain_hash(_saved(directory))


def _common_table(directory: Path, logged: Sequence[LoggedValidation]) -> Table:
    """The table that all validations of a run share but for the nats."""
    last = logged[-1].table
    for validation in logged[:-1]:
        for name, value in attrs.asdict(last).items():
            other = getattr(validation.table, name)
            if name != "nats" and not np.array_equal(value.numpy(), other.numpy()):
                raise CheckpointError(
                    f"{directory}: the validations of steps {validation.step} and "
                    f"{logged[-1].step} differ in their {name}; a run is validated on the same "
                    "blocks with the same masks throughout, so one of them is not this run's"
                )
    return Table(
        blocks=last.blocks.numpy(),
        documents=last.documents.numpy(),
        tokens=last.tokens.numpy(),
        masked=last.masked.numpy(),
    )
