"""Why is it slow? The analyses: evaluators about a run's checkpoints, its text, or its recipe."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

from mdmkit.data.blocks import build_tokenizer, open_blocks, token_counts
from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import MdmkitError, RecipeError
from mdmkit.evaluation.analysis_files import Analysis, kept_results, write_analysis
from mdmkit.evaluation.contexts import evaluation_context, trained_context
from mdmkit.evaluation.driver import Result, pictures_of, run_evaluation
from mdmkit.evaluation.evaluate import Progress, labelled, with_circumstances
from mdmkit.evaluation.find_run import find_run, is_run
from mdmkit.evaluation.run import open_trained, read_recipe
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.network import bring_to_life
from mdmkit.plugins import Catalogue, load_catalogue
from mdmkit.protocols import BlockSource, Denoiser, EvaluationContext, Evaluator, RunFacts, Split
from mdmkit.recipe import Recipe, dump_recipe, load_recipe, recipe_hash
from mdmkit.recipe_files import parse_overrides
from mdmkit.suggest import did_you_mean
from mdmkit.training.checkpoint import steps_on_disk
from mdmkit.training.distributed import World, open_world, rank_zero_first

FOLDER = "analysis"
"""Of a run, for what `analyze` finds."""

TABLES = ("evaluators",)
T = TypeVar("T")


@frozen(kw_only=True)
class Wish:
    """What is asked for; see `analyze` for the meaning of each."""

    only: Sequence[str] = ()
    overrides: Sequence[str] = ()
    checkpoints: str = "last"
    ema: bool = True
    seed: int = 0
    batch_size: int | None = None
    device: str = "auto"
    dtype: str | None = None
    cache_dir: Path | None = None
    notify: Notify = ignore
    progress: Progress | None = None


def analyze(
    subject: str | Path,
    *,
    runs_dir: str | Path | None = None,
    out: Path | None = None,
    **wish: Any,
) -> dict[str, Analysis]:
    """Run the analyses that are installed on a run, or on a recipe alone.

    Under torchrun every process calls this, and they share the work.

    Args:
        subject: a run directory or its name; else a recipe (a file or a shipped name), of which
            those analyses are made that need no trained network.
        runs_dir: the folder of runs; else ``MDMKIT_RUNS_DIR``, else ``runs``.
        out: where the results go instead of the run's ``analysis``; of a recipe they go nowhere
            without it.
        wish: ``only``: names of analyses, or patterns; all that apply by default. ``overrides``:
            ``evaluators.<analysis>.key=value``; of a recipe any of its tables. ``checkpoints``:
            ``last``, ``all``, or steps with commas between them. ``ema``, ``seed``,
            ``batch_size``, ``device``, ``dtype``, ``cache_dir``, ``notify``, ``progress``: as for
            `mdmkit.evaluate`.

    Returns:
        What each found, by its label.

    Raises:
        RecipeError: where no analysis is left, or an override does not fit.
        CheckpointError: for a run or a checkpoint that cannot be read.
        DataError: for a corpus that cannot be had.
    """
    asked = Wish(**wish)
    catalogue = load_catalogue()
    if not str(subject).endswith(".toml") and (
        is_run(str(subject), runs_dir) or Path(subject).is_dir()
    ):
        return _of_run(find_run(subject, runs_dir), asked, out, catalogue)
    return _of_recipe(str(subject), asked, out, catalogue)


def analyses_of(catalogue: Catalogue) -> dict[str, type]:
    """The evaluators that are analyses, by name."""
    found = catalogue.of("mdmkit_evaluators").items()
    return {name: c.cls for name, c in found if hasattr(c.cls, "subject")}


def _of_run(
    directory: Path, wish: Wish, out: Path | None, catalogue: Catalogue
) -> dict[str, Analysis]:
    overrides = [*_uses(wish.only, catalogue), *wish.overrides]
    recipe = read_recipe(directory, overrides, TABLES, catalogue=catalogue)
    chosen = _chosen(recipe, wish, catalogue, trained=True)
    steps = _steps(directory, wish.checkpoints)
    folder = out or directory / FOLDER
    tables = dump_recipe(recipe, catalogue)["evaluators"]
    found: dict[str, dict[str, Result]] = {}
    with open_world(wish.device) as world:
        for place, step in enumerate(steps):
            with rank_zero_first(world):
                opened = open_trained(
                    directory, overrides=overrides, tables=TABLES, checkpoint=step, ema=wish.ema,
                    device=str(world.device), precision=wish.dtype, cache_dir=wish.cache_dir,
                    notify=wish.notify if world.rank == 0 else ignore, catalogue=catalogue,
                )  # fmt: skip

            def blocks(split: Split, opened: Any = opened) -> BlockSource:
                with rank_zero_first(world):
                    return opened.blocks(split)  # type: ignore[no-any-return]

            context = trained_context(
                opened, blocks=blocks, rank=world.rank, world_size=world.size,
                batch_size=wish.batch_size, seed=wish.seed,
            )  # fmt: skip
            for label, evaluator in chosen.items():
                about_network = _subject(evaluator) == "network"
                if place and not about_network:
                    continue
                facts = {"evaluator": tables[label], **opened.facts}
                title = f"{label}, step {opened.step}" if about_network else label
                result = _measured(
                    evaluator, context if about_network else without_network(context, label),
                    facts, label, title, wish, world,
                )  # fmt: skip
                if label not in found:
                    found[label] = kept_results(folder / f"{label}.json", result, opened.step)
                found[label][str(opened.step)] = result
                _put_down(folder, label, evaluator, found[label], world, wish)
        return {label: combined(label, chosen[label], found[label]) for label in chosen}


def _of_recipe(
    name: str, wish: Wish, out: Path | None, catalogue: Catalogue
) -> dict[str, Analysis]:
    try:
        recipe = load_recipe(
            name, [*_uses(wish.only, catalogue), *wish.overrides], catalogue=catalogue
        )
    except RecipeError as error:
        raise RecipeError(f"{error}\n(there is no run of that name either)") from error
    chosen = _chosen(recipe, wish, catalogue, trained=False)
    tables = dump_recipe(recipe, catalogue)["evaluators"]
    with open_world(wish.device) as world:
        with rank_zero_first(world):
            context = _untrained_context(recipe, wish, world)
        facts = {"recipe": {"name": recipe.run.name, "recipe_hash": recipe_hash(recipe, catalogue)}}
        found = {}
        for label, evaluator in chosen.items():
            bare = without_network(context, label)
            own = {"evaluator": tables[label], **facts}
            result = _measured(evaluator, bare, own, label, label, wish, world)
            found[label] = combined(label, evaluator, {"0": result})
            if out is not None:
                _put_down(out, label, evaluator, {"0": result}, world, wish)
        return found


def _measured(
    evaluator: Evaluator,
    context: EvaluationContext,
    facts: Mapping[str, Any],
    label: str,
    title: str,
    wish: Wish,
    world: World,
) -> Result:
    progress = labelled(wish.progress if world.rank == 0 else None, title)
    found = run_evaluation(evaluator, context, label=label, progress=progress)
    return with_circumstances(found, context, facts)


def combined(label: str, evaluator: Evaluator, results: Mapping[str, Result]) -> Analysis:
    """The results of an analysis by step, and what it makes of them together."""
    together = getattr(evaluator, "over_training", None)
    by_step = {int(step): results[step] for step in sorted(results, key=int)}
    drawn = {}
    if together is not None and len(by_step) > 1:
        drawn = pictures_of(f'evaluator "{label}"', partial(together, by_step))
    return Analysis(label=label, steps=by_step, over_training=drawn)


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


def _put_down(
    folder: Path,
    label: str,
    evaluator: Evaluator,
    results: Mapping[str, Result],
    world: World,
    wish: Wish,
) -> None:
    if world.rank == 0:
        write_analysis(folder, combined(label, evaluator, results), wish.notify)


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


def _uses(only: Sequence[str], catalogue: Catalogue) -> list[str]:
    """Overrides that name the analyses as evaluators.

    Raises:
        RecipeError: where `only` fits none.
    """
    known = analyses_of(catalogue)
    names = []
    for pattern in only or ["*"]:
        fitting = fnmatch.filter(known, pattern)
        if not fitting:
            raise RecipeError(
                f'--only: no analysis "{pattern}"{did_you_mean(pattern, known)}; known: '
                f"{', '.join(sorted(known)) or 'none'}"
            )
        names += fitting
    return [f'evaluators.{name}.use="{name}"' for name in dict.fromkeys(names)]


def _chosen(
    recipe: Recipe, wish: Wish, catalogue: Catalogue, *, trained: bool
) -> dict[str, Evaluator]:
    """The analyses among the evaluators of the recipe that can be made.

    Raises:
        RecipeError: where there is none.
    """
    named = parse_overrides([*_uses(wish.only, catalogue), *wish.overrides]).data["evaluators"]
    wanted = {label for label, options in named.items() if "use" in options}
    chosen, why = {}, []
    for label, evaluator in recipe.evaluators.items():
        if label not in wanted or not hasattr(evaluator, "subject"):
            continue
        applies = getattr(evaluator, "applies", None)
        if applies is not None and not applies(recipe):
            why.append(f'{label}: is not for runs of the objective "{recipe.objective.prediction}"')
        elif not trained and _subject(evaluator) == "network":
            why.append(f"{label}: needs a trained network; give a run")
        else:
            chosen[label] = evaluator
    if not chosen:
        raise RecipeError("no analysis is left:\n" + "\n".join(f"  {line}" for line in why))
    if wish.only or not trained:
        for line in why:
            wish.notify(f"left out: {line}")
    return chosen


def _subject(evaluator: Evaluator) -> str:
    return str(getattr(evaluator, "subject", "network"))


def _steps(directory: Path, checkpoints: str) -> list[int | None]:
    """The steps that are meant, rising; None for the last.

    Raises:
        MdmkitError: for steps that are not there, or words that mean none.
    """
    if checkpoints == "last":
        return [None]
    there = steps_on_disk(directory)
    if checkpoints == "all":
        return [*there] or [None]
    try:
        asked = sorted({int(text) for text in checkpoints.split(",")})
    except ValueError as error:
        raise MdmkitError(
            f'--checkpoints: expected last, all, or steps such as 200,1000; got "{checkpoints}"'
        ) from error
    missing = [step for step in asked if step not in there]
    if missing:
        raise MdmkitError(
            f"--checkpoints: {directory} has no checkpoint of step "
            f"{', '.join(map(str, missing))}; there are {', '.join(map(str, there)) or 'none'} "
            "(a run keeps the last few: train.keep_checkpoints, train.keep_every)"
        )
    return [*asked]
