"""A run to numbers: the evaluators of its recipe, on a live network or a saved one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from mdmkit.data.cache import Notify, ignore
from mdmkit.environment import environment
from mdmkit.errors import PluginError, RecipeError
from mdmkit.evaluation.contexts import trained_context
from mdmkit.evaluation.driver import Result, measure, run_evaluation
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import open_trained, read_recipe
from mdmkit.files import explained, write_json
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.problems import dotted
from mdmkit.protocols import BlockSource, EvaluationContext, Split
from mdmkit.recipe import Recipe, dump_recipe
from mdmkit.training.distributed import open_world, rank_zero_first
from mdmkit.values import BlockTable, Measurement

TABLES = ("evaluators", "sampler")
Progress = Callable[[str, int, int], object]
"""Called with (label, done, total)."""


@frozen(kw_only=True, eq=False)
class Validation:
    """What a validation found.

    Attributes:
        nelbo: nats per token, over all blocks.
        table: what each draw of each block gave.
        provenance: what was measured on what, as plain JSON.
    """

    nelbo: Measurement
    table: BlockTable
    provenance: Mapping[str, Any]


def evaluate(
    run: str | Path,
    *,
    overrides: Sequence[str] = (),
    split: str | None = None,
    draws: int | None = None,
    precision: float | None = None,
    checkpoint: int | None = None,
    ema: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    runs_dir: str | Path | None = None,
    cache_dir: Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
) -> dict[str, Result]:
    """Run the evaluators of a trained run and keep what they find in its ``eval/<label>.json``.

    Under torchrun every process calls this, and they share the work.

    Args:
        run: a run directory, or its name under the runs folder.
        overrides: changes to ``[evaluators]`` and ``[sampler]``, as for ``--set``.
        split: sets that option of every evaluator that has it.
        draws: the same for the number of Monte-Carlo draws.
        precision: the same for the relative standard error at which drawing may stop.
        checkpoint: the step; the newest whole checkpoint by default.
        ema: the averaged weights, where the run has them.
        seed: of the evaluation; runs measured with equal seeds meet equal masks.
        batch_size: rows a network call.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: ``bf16`` or ``fp32``, of the network's forward; the run's own by default.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        cache_dir: where tokenized text is kept, instead of ``MDMKIT_CACHE_DIR``.
        notify: is told what takes long and what was written.
        progress: called as ``progress(label, done, total)``.

    Returns:
        The result of each evaluator by its label.

    Raises:
        RecipeError: for a run without evaluators, or a bad override.
        CheckpointError: for a run that cannot be read.
        DataError: for a corpus that cannot be had.
    """
    directory = find_run(run, runs_dir)
    catalogue = load_catalogue()
    asked = read_recipe(directory, overrides, TABLES, catalogue=catalogue)
    if not asked.evaluators:
        raise RecipeError(
            f"{directory}: its recipe names no evaluators; name one, such as "
            "--set evaluators.nelbo.use=nelbo"
        )
    common = {"split": split, "draws": draws, "precision": precision}
    with open_world(device) as world:
        with rank_zero_first(world):
            opened = open_trained(
                directory,
                overrides=[*overrides, *_shorthands(asked, common)],
                tables=TABLES,
                checkpoint=checkpoint,
                ema=ema,
                device=str(world.device),
                precision=dtype,
                notify=notify if world.rank == 0 else ignore,
                cache_dir=cache_dir,
                catalogue=catalogue,
            )

        def blocks(split: Split) -> BlockSource:
            with rank_zero_first(world):
                return opened.blocks(split)

        context = trained_context(
            opened,
            blocks=blocks,
            rank=world.rank,
            world_size=world.size,
            batch_size=batch_size,
            seed=seed,
        )
        return evaluate_live(
            opened.recipe,
            context,
            facts=opened.facts,
            directory=directory,
            notify=notify,
            progress=progress if world.rank == 0 else None,
            catalogue=catalogue,
        )


def evaluate_live(
    recipe: Recipe,
    context: EvaluationContext,
    *,
    facts: Mapping[str, Any],
    directory: Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
    catalogue: Catalogue | None = None,
) -> dict[str, Result]:
    """Run the recipe's evaluators in `context`. With several ranks, every rank calls this.

    Args:
        recipe: names the evaluators.
        context: from `evaluation_context`.
        facts: what the provenance of every number says of the weights; see `weights_facts`.
        directory: the run directory, in which rank 0 writes ``eval/<label>.json``.
        notify: is told what was written.
        progress: called as ``progress(label, done, total)``.
        catalogue: the components the recipe was made from; all installed ones by default.
    """
    tables = dump_recipe(recipe, catalogue)
    results: dict[str, Result] = {}
    for label, evaluator in recipe.evaluators.items():
        found = run_evaluation(evaluator, context, label=label, progress=labelled(progress, label))
        results[label] = with_circumstances(
            found, context, {"evaluator": tables["evaluators"][label], **facts}
        )
        if found.pictures_failed and context.rank == 0:
            notify(f"{label}: {found.pictures_failed}")
        if directory is not None and context.rank == 0:
            _write(directory / "eval" / f"{label}.json", results[label], notify)
    return results


def with_circumstances(
    found: Result, context: EvaluationContext, facts: Mapping[str, Any]
) -> Result:
    """The result with what its evaluator cannot know in its provenance.

    Args:
        found: from the evaluator.
        context: in which it was found.
        facts: more to say, such as `weights_facts`.

    Raises:
        PluginError: where the evaluator uses a key of these for something else.
    """
    taken = sorted(found.provenance.keys() & (facts.keys() - {"data"}))
    if taken:
        raise PluginError(
            f'evaluator "{found.label}": its provenance has {", ".join(taken)}, which says '
            "something else of every number; expected another name"
        )
    provenance = {
        **found.provenance,
        "tokenizer_fingerprint": context.tokenizer.fingerprint,
        "seed": context.seed,
        "batch_size": context.batch_size,
        "ranks": context.world_size,
        "environment": environment(context.device),
        **facts,
    }
    return attrs.evolve(found, provenance=provenance)


def validate(recipe: Recipe, context: EvaluationContext) -> Validation:
    """The NELBO per token on the validation split: the loop's own validation.

    The seed is always 0, so that all validations of all runs meet the same masks.

    Raises:
        DataError: where the split has too few blocks.
    """
    # The one component that training relies on by itself: whatever a recipe trains and evaluates,
    # its curve is the NELBO.
    from mdmkit.builtin.evaluators.nelbo import Nelbo

    train = recipe.train
    evaluator = Nelbo(
        split="validation",
        draws=train.validate_draws,
        blocks=train.validate_blocks,
        estimator="count",  # plain: what is logged by pair is compared and learned from by pair
    )
    live = evaluator.build(attrs.evolve(context, seed=0))
    found = measure(live, label="validation")
    return Validation(
        nelbo=found.measurements["nelbo_per_token"],
        table=live.by_pair(),
        provenance=found.provenance,
    )


def labelled(progress: Progress | None, label: str) -> Callable[[int, int], object] | None:
    """`progress` of one label, or None."""
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)


def _write(path: Path, result: Result, notify: Notify) -> None:
    verb = "replaced" if path.exists() else "written"
    with explained(path, "make room, and evaluate again"):
        path.parent.mkdir(exist_ok=True)
        write_json(path, result.to_json())
    notify(f"{path}: {verb}")


def _shorthands(recipe: Recipe, common: Mapping[str, Any]) -> list[str]:
    """Overrides that set an option of every evaluator that has it."""
    found: list[str] = []
    for key, value in common.items():
        if value is None:
            continue
        labels = [
            label for label, evaluator in recipe.evaluators.items() if key in _options(evaluator)
        ]
        if not labels:
            raise RecipeError(
                f"{key}: none of the evaluators {', '.join(recipe.evaluators)} has an option "
                f'"{key}"'
            )
        found += [f"{dotted(('evaluators', label, key))}={json.dumps(value)}" for label in labels]
    return found


def _options(evaluator: Any) -> set[str]:
    return {field.name for field in attrs.fields(type(evaluator))}
