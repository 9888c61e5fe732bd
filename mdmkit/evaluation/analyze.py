"""Why is it slow? The analyses: evaluators about a run's checkpoints, its text, or its recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import define, field, frozen

from mdmkit.data.blocks import build_tokenizer, open_blocks, token_counts
from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import MdmkitError, RecipeError
from mdmkit.evaluation.analysis_choice import (
    analyses_as_evaluators,
    chosen_analyses,
    steps_of,
    subject,
)
from mdmkit.evaluation.analysis_files import Analysis, kept_results, write_analysis
from mdmkit.evaluation.contexts import evaluation_context, trained_context
from mdmkit.evaluation.driver import Result, pictures_of, run_evaluation
from mdmkit.evaluation.evaluate import Progress, labelled, with_circumstances
from mdmkit.evaluation.find_run import find_run, is_run
from mdmkit.evaluation.run import TrainedRun, open_trained, read_recipe
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.network import bring_to_life
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Evaluator, RunFacts, Split
from mdmkit.recipe import Recipe, dump_recipe, load_recipe, recipe_hash, recipe_names
from mdmkit.training.distributed import World, open_world, rank_zero_first
from mdmkit.values import HeatMap, Picture

FOLDER = "analysis"
"""Of a run, for what `analyze` finds."""

TABLES = ("evaluators",)
T = TypeVar("T")


@frozen(kw_only=True)
class Wish:
    """What is asked for; see `analyze` for the meaning of each."""

    only: Sequence[str]
    overrides: Sequence[str]
    checkpoints: str
    ema: bool
    seed: int
    batch_size: int | None
    device: str
    dtype: str | None
    cache_dir: Path | None
    notify: Notify
    progress: Progress | None


@frozen(kw_only=True)
class Analyses:
    """What `analyze` found.

    Attributes:
        found: each analysis by its label.
        failed: why others, or their pictures, could not be made, by label.
    """

    found: Mapping[str, Analysis]
    failed: Mapping[str, str]


def analyze(
    of: str | Path,
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    checkpoints: str = "last",
    ema: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    out: Path | None = None,
    runs_dir: str | Path | None = None,
    cache_dir: Path | None = None,
    notify: Notify = ignore,
    progress: Progress | None = None,
) -> Analyses:
    """Run the analyses that are installed on a run, or on a recipe alone.

    Under torchrun every process calls this, and they share the work.

    Args:
        of: a run directory or its name; else a recipe (a file or a shipped name), of which those
            analyses are made that need no trained network.
        only: names of analyses, or patterns; all that apply by default.
        overrides: ``evaluators.<analysis>.key=value``; of a recipe any of its tables.
        checkpoints: ``last``, ``all``, or steps with commas between them.
        out: where the results go instead of the run's ``analysis``; those of a recipe go nowhere
            without it.
        ema, seed, batch_size, device, dtype, runs_dir, cache_dir, notify, progress: as for
            `mdmkit.evaluate`.

    Returns:
        What each found, and which could not be made; one that fails costs no other.

    Raises:
        RecipeError: where no analysis is left, or an override does not fit.
        MdmkitError: where none could be made.
        CheckpointError: for a run or a checkpoint that cannot be read.
        DataError: for a corpus that cannot be had.
    """
    asked = Wish(
        only=only, overrides=overrides, checkpoints=checkpoints, ema=ema, seed=seed,
        batch_size=batch_size, device=device, dtype=dtype, cache_dir=cache_dir, notify=notify,
        progress=progress,
    )  # fmt: skip
    catalogue = load_catalogue()
    if not str(of).endswith(".toml") and (is_run(str(of), runs_dir) or Path(of).is_dir()):
        return _of_run(find_run(of, runs_dir), asked, out, catalogue)
    return _of_recipe(str(of), asked, out, catalogue)


def _of_run(directory: Path, wish: Wish, out: Path | None, catalogue: Catalogue) -> Analyses:
    overrides = analyses_as_evaluators(wish.only, wish.overrides, catalogue)
    recipe = read_recipe(directory, overrides, TABLES, catalogue=catalogue)
    chosen = chosen_analyses(recipe, overrides, trained=True, notify=wish.notify)
    steps = steps_of(directory, wish.checkpoints)
    with open_world(wish.device) as world:
        kept = Keeping(
            chosen=chosen,
            tables=dump_recipe(recipe, catalogue)["evaluators"],
            folder=out or directory / FOLDER,
            wish=wish,
            world=world,
        )
        for place, step in enumerate(steps):
            with rank_zero_first(world):
                opened = open_trained(
                    directory, overrides=overrides, tables=TABLES, checkpoint=step, ema=wish.ema,
                    device=str(world.device), precision=wish.dtype, cache_dir=wish.cache_dir,
                    notify=wish.notify if world.rank == 0 else ignore, catalogue=catalogue,
                )  # fmt: skip

            def blocks(split: Split, opened: TrainedRun = opened) -> BlockSource:
                with rank_zero_first(world):
                    return opened.blocks(split)

            context = trained_context(
                opened, blocks=blocks, rank=world.rank, world_size=world.size,
                batch_size=wish.batch_size, seed=wish.seed,
            )  # fmt: skip
            for label, evaluator in chosen.items():
                if subject(evaluator) == "network":
                    kept.measure(label, context, opened.facts, opened.step)
                elif not place:
                    bare, facts = without_network(context, label), {"run": opened.facts["run"]}
                    kept.measure(label, bare, facts, 0)
        return kept.analyses()


def _of_recipe(name: str, wish: Wish, out: Path | None, catalogue: Catalogue) -> Analyses:
    overrides = analyses_as_evaluators(wish.only, wish.overrides, catalogue)
    try:
        recipe = load_recipe(name, overrides, catalogue=catalogue)
    except RecipeError as error:
        if Path(name).exists() or name in recipe_names():
            raise
        raise RecipeError(f"{error}\n(there is no run of that name either)") from error
    chosen = chosen_analyses(recipe, overrides, trained=False, notify=wish.notify)
    with open_world(wish.device) as world:
        kept = Keeping(
            chosen=chosen,
            tables=dump_recipe(recipe, catalogue)["evaluators"],
            folder=out,
            wish=wish,
            world=world,
        )
        with rank_zero_first(world):
            context = _untrained_context(recipe, wish, world)
        facts = {"recipe": {"name": recipe.run.name, "recipe_hash": recipe_hash(recipe, catalogue)}}
        for label in chosen:
            kept.measure(label, without_network(context, label), facts, 0)
        return kept.analyses()


@define(kw_only=True)
class Keeping:
    """Measures, and keeps at once what was found; one analysis that fails costs no other.

    Attributes:
        chosen: the analyses by label.
        tables: their options as plain data.
        folder: where the files go; None for nowhere.
        wish, world: what is asked for, and who works on it.
        found: the results by label and step.
        failed: why an analysis, or a picture of one, could not be made, by label.
    """

    chosen: Mapping[str, Evaluator]
    tables: Mapping[str, Any]
    folder: Path | None
    wish: Wish
    world: World
    found: dict[str, dict[int, Result]] = field(factory=dict)
    failed: dict[str, str] = field(factory=dict)

    def measure(
        self, label: str, context: EvaluationContext, facts: Mapping[str, Any], step: int
    ) -> None:
        """Make one analysis of the weights of one step (0: of no weights)."""
        title = f"{label}, step {step}" if step else label
        progress = labelled(self.wish.progress if self.world.rank == 0 else None, title)
        try:
            result = run_evaluation(self.chosen[label], context, label=label, progress=progress)
            result = with_circumstances(result, context, {"evaluator": self.tables[label], **facts})
        except MdmkitError as error:
            self._failed(label, str(error))
            return
        if result.pictures_failed:
            self._failed(label, result.pictures_failed)
        if label not in self.found:
            path = None if self.folder is None else self.folder / f"{label}.json"
            self.found[label] = {} if path is None else kept_results(path, result, step)
        self.found[label][step] = result
        if self.folder is not None and self.world.rank == 0:
            write_analysis(self.folder, self._combined(label), self.wish.notify)

    def analyses(self) -> Analyses:
        """All that was found.

        Raises:
            MdmkitError: where that is nothing.
        """
        if not self.found:
            raise MdmkitError("\n".join(f"{label}: {why}" for label, why in self.failed.items()))
        found = {label: self._combined(label) for label in self.chosen if label in self.found}
        return Analyses(found=found, failed=self.failed)

    def _combined(self, label: str) -> Analysis:
        """The results of an analysis by step, and what it makes of them together."""
        by_step = dict(sorted(self.found[label].items()))
        together = getattr(self.chosen[label], "over_training", None)
        drawn: Mapping[str, Picture | HeatMap] = {}
        if together is not None and len(by_step) > 1:
            drawn, why = pictures_of(partial(together, by_step))
            if why:
                self._failed(label, f"over training: {why}")
        return Analysis(label=label, steps=by_step, over_training=drawn)

    def _failed(self, label: str, why: str) -> None:
        if self.failed.get(label) != why:
            self.failed[label] = why
            self.wish.notify(f"{label}: {why}")


def without_network(context: EvaluationContext, label: str) -> EvaluationContext:
    """The context for an analysis of text or recipe, which has no network to call."""

    return attrs.evolve(
        context,
        call=_Refused(
            f'evaluator "{label}": calls the network, but says that it is about something else; '
            'expected subject = "network"'
        ),
        gradient=None,
    )


@frozen
class _Refused:
    """Stands where the network is called."""

    message: str

    def __call__(self, function: Callable[[Denoiser], T]) -> T:  # noqa: ARG002 - the contract
        raise RecipeError(self.message)


def _untrained_context(recipe: Recipe, wish: Wish, world: World) -> EvaluationContext:
    tokenizer = build_tokenizer(recipe.data, wish.notify, wish.cache_dir)

    def blocks(split: Split) -> BlockSource:
        with rank_zero_first(world):
            return open_blocks(
                recipe.data, split, tokenizer=tokenizer, notify=wish.notify,
                cache_dir=wish.cache_dir,
            )  # fmt: skip

    facts = RunFacts(
        vocab=tokenizer.vocab,
        length=recipe.data.length,
        steps=recipe.train.steps,
        global_batch_size=recipe.train.global_batch_size,
        learning_rate=learning_rate_fraction(recipe.learning_rate, recipe.train.steps),
        token_counts=lambda: token_counts(blocks("train"), tokenizer.vocab.size),
    )

    no_network = _Refused("a recipe alone has no trained network; train it, and give the run")
    return evaluation_context(
        recipe, bring_to_life(recipe, facts), tokenizer, call=no_network, blocks=blocks,
        device=world.device, rank=world.rank, world_size=world.size,
        batch_size=wish.batch_size, seed=wish.seed, notify=wish.notify, cache_dir=wish.cache_dir,
    )  # fmt: skip
