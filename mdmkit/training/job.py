"""A training job: everything the loop works with, made from a recipe, and what is saved of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from attrs import define, field
from torch import Tensor

from mdmkit import samples_log, validation_log
from mdmkit.data.blocks import build_tokenizer, open_blocks, token_counts
from mdmkit.data.text_tokenizer import TextTokenizer, load_tokenizer
from mdmkit.errors import CheckpointError
from mdmkit.evaluation.wanted import check_eos
from mdmkit.files import GO_ON, explained
from mdmkit.head import chunk_rows
from mdmkit.learning_rate import learning_rate_fraction
from mdmkit.metrics_log import METRICS, MetricsLog
from mdmkit.network import Live, Root, bring_to_life, build_root
from mdmkit.protocols import BlockSource, RunFacts, RunInfo, Split, Tracking
from mdmkit.recipe import Recipe, dump_recipe
from mdmkit.report.console import Reporter
from mdmkit.training.batches import MicroBatches, split_batch
from mdmkit.training.branch import fresh_tables, require_branch
from mdmkit.training.checkpoint import last_checkpoint, load_checkpoint, step_of
from mdmkit.training.distributed import World, rank_zero_first
from mdmkit.training.ema import Ema
from mdmkit.training.exported import require_trained_here
from mdmkit.training.optimizer import make_optimizer
from mdmkit.training.parallel import prepare
from mdmkit.training.saving import Saver
from mdmkit.training.time_bins import TimeBins
from mdmkit.training.window import SHARES, Window

TOKENIZER = "tokenizer.json"
SPLITS: tuple[Split, ...] = get_args(Split)

Text = tuple[TextTokenizer, Callable[[Split], BlockSource]]
"""The tokenizer of a run, and what opens the blocks of a split."""


def ignored(_: str) -> None:
    """Nobody wants to know."""


@define(kw_only=True, eq=False)
class Job:
    """A run in memory.

    Attributes:
        recipe, world, directory, reporter: what to train, with whom, where, and whom to tell.
        tokenizer, blocks: the text, cut to blocks; ``blocks(split)``.
        root: the module that holds (and shards) the denoiser.
        live: the live components.
        batches: the micro-batches of any step.
        optimizer, learning_rate, ema, window, time_bins: what their modules say.
        saver: writes checkpoints beside the loop.
        trackers: where metrics go; none on other ranks than 0.
        step: optimizer steps done.
        seconds: time spent on them, interruptions left out.
        validated: the step of the last validation, or -1.
        unsampled: why the last attempt to generate texts on the way failed, or nothing.
        fill: the places of a micro-batch's loss are filled up to a multiple of this.
        phase: told which part of a step begins, by whoever wants to know how long each takes.
    """

    recipe: Recipe
    world: World
    directory: Path
    reporter: Reporter
    tokenizer: TextTokenizer
    blocks: Callable[[Split], BlockSource]
    root: Root
    live: Live
    batches: MicroBatches
    optimizer: torch.optim.AdamW
    learning_rate: Callable[[int], float]
    ema: Ema
    window: Window
    time_bins: TimeBins
    saver: Saver
    trackers: list[Tracking] = field(factory=list)
    step: int = 0
    seconds: float = 0.0
    validated: int = -1
    unsampled: str = ""
    fill: int = 1
    phase: Callable[[str], None] = ignored

    @property
    def tokens(self) -> int:
        """Tokens seen so far."""
        return self.step * self.recipe.train.global_batch_size * self.recipe.data.length

    def log(self, metrics: dict[str, float | int | None]) -> None:
        """Hand one line of metrics to every tracker, with the position in front."""
        line = {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 3)}
        known = {name: value for name, value in metrics.items() if value is not None}
        for tracker in self.trackers:
            tracker.log({**line, **known})

    def save(self) -> None:
        """Have a checkpoint of the present position written; ``saver.settle`` waits for it."""
        for shares in self._by_rank():  # any rank may be the one that writes them
            shares.copy_(self.world.sum(shares))
        tensors, facts = self._state()
        self.saver.save(self.step, tensors, facts)
        self._keep_shares_on_rank_zero()

    def restore(self, path: Path | None) -> None:
        """Go to the checkpoint at `path`, or stay at the start without one."""
        if path is not None:
            tensors, _ = self._state()
            fresh = fresh_tables(self.directory, step_of(path))
            facts = load_checkpoint(path, tensors, world=self.world, fresh=fresh)
            self._keep_shares_on_rank_zero()
            try:
                self._take(facts, tensors, fresh)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise CheckpointError(
                    f"{path}: what it says of the run cannot be used ({type(error).__name__}: "
                    f"{error}); move it away to go on from the one before"
                ) from error
            self.reporter.notify(self._position(path))
        position = self.step if path is not None else -1
        for tracker in self.trackers:
            tracker.resume(position)
        if self.world.rank == 0:
            validation_log.forget_after(self.directory, position)
            samples_log.forget_after(self.directory, position)

    def _take(
        self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], fresh: Collection[str]
    ) -> None:
        """The position and the state of components, out of a checkpoint."""
        self.step, self.validated = int(facts["step"]), int(facts["validated"])
        self.seconds = float(facts["seconds"])
        for table, component in self.live.stateful.items():
            if table in fresh:
                continue
            prefix = f"components/{table}/"
            loaded = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            component.load_state_dict({**loaded, **facts["components"][table]})

    def _by_rank(self) -> list[Tensor]:
        """Sums of which each rank has its own share."""
        return [self.window.sums[SHARES], self.time_bins.sums]

    def _keep_shares_on_rank_zero(self) -> None:
        if self.world.rank > 0:
            for shares in self._by_rank():
                shares.zero_()

    def _position(self, path: Path) -> str:
        """Where the run stands, in words."""
        steps = self.recipe.train.steps
        if self.step == steps:
            return f"all {steps} steps are trained already ({path.name}); evaluating"
        return f"going on from step {self.step} of {steps} ({path.name})"

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All tensors by name (to be saved, or to be filled), and the plain facts."""
        tensors = {f"model/{name}": tensor for name, tensor in self.root.state_dict().items()}
        tensors |= {f"ema/{name}": tensor for name, tensor in self.ema.average.items()}
        for name, parameter in self.root.named_parameters():
            for key, tensor in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{key}/{name}"] = tensor
        tensors["window"] = self.window.sums
        tensors["time_bins"] = self.time_bins.sums
        plain: dict[str, dict[str, Any]] = {}
        for table, component in self.live.stateful.items():
            state = component.state_dict()
            plain[table] = {k: v for k, v in state.items() if not isinstance(v, Tensor)}
            tensors |= {
                f"components/{table}/{k}": v for k, v in state.items() if isinstance(v, Tensor)
            }
        facts = {"seconds": self.seconds, "validated": self.validated, "components": plain}
        return tensors, facts


@contextlib.contextmanager
def open_job(
    recipe: Recipe,
    directory: Path,
    world: World,
    reporter: Reporter,
    *,
    text: Text | None = None,
) -> Iterator[Job]:
    """Make the job of `recipe` in `directory`, at the position of its last checkpoint.

    With `text` it trains on that, and the corpus of the recipe is not needed.
    """
    with rank_zero_first(world):
        tokenizer, blocks = text or _text(recipe, directory, world, reporter)
        # All text that the run will ask for: what is missing is missed before the training.
        splits = {split: blocks(split) for split in splits_of(recipe)}
    vocab, options = tokenizer.vocab, recipe.train
    learning_rate = learning_rate_fraction(recipe.learning_rate, options.steps)
    facts = RunFacts(
        vocab=vocab,
        length=recipe.data.length,
        steps=options.steps,
        global_batch_size=options.global_batch_size,
        learning_rate=learning_rate,
        token_counts=lambda: token_counts(splits["train"], vocab.size),
    )
    live = bring_to_life(recipe, facts)
    checkpoint = _last_checkpoint(directory, world, reporter)
    root = build_root(recipe, vocab, world.device, initialize=checkpoint is None)
    prepare(root, recipe.parallel, world)
    if world.size == 1 and (recipe.parallel.param_dtype or recipe.parallel.reduce_dtype):
        reporter.notify(
            "[parallel] param_dtype and reduce_dtype: one process gathers and sums nothing, so "
            "weights and gradients keep their own dtypes"
        )
    group = live.objective.group
    job = Job(
        recipe=recipe,
        world=world,
        directory=directory,
        reporter=reporter,
        tokenizer=tokenizer,
        blocks=blocks,
        root=root,
        live=live,
        batches=MicroBatches(
            blocks=splits["train"],
            seed=recipe.run.seed,
            rows=options.global_batch_size,
            group=group,
            rank=world.rank,
            world_size=world.size,
            accumulation=split_batch(options, group, world),
        ),
        optimizer=make_optimizer(root.parameters(), recipe.optimizer),
        learning_rate=learning_rate,
        ema=Ema(root, options.ema_decay),
        window=Window(world.device, options.clip_norm),
        time_bins=TimeBins(world.device),
        saver=Saver(directory, options, world),
    )
    if recipe.parallel.compile:
        positions = len(job.batches.rows_of(0)) * recipe.data.length
        job.fill = chunk_rows(vocab.size, world.device, positions)
    if world.rank == 0:
        info = RunInfo(directory=directory, name=recipe.run.name, recipe=dump_recipe(recipe))
        job.trackers.append(MetricsLog(directory / METRICS))
        job.trackers += [tracker.build(info) for tracker in recipe.trackers.values()]
    try:
        job.restore(checkpoint)
        yield job
    finally:
        reporter.close()
        job.saver.close()
        for tracker in job.trackers:
            tracker.close()


def _last_checkpoint(directory: Path, world: World, reporter: Reporter) -> Path | None:
    """The newest whole checkpoint, the same on every rank; None where the run begins."""
    path = None
    if world.rank == 0:
        path = last_checkpoint(directory, reporter.notify)
        require_branch(directory, None if path is None else step_of(path))
        if path is None:
            require_trained_here(directory)
    world.wait()  # while the files of the checkpoint are verified
    return world.share(path)


def _tokenizer(recipe: Recipe, directory: Path, world: World, reporter: Reporter) -> TextTokenizer:
    """The run's own tokenizer if it has one, else a new one, kept with the run."""
    path = directory / TOKENIZER
    if path.exists():
        return load_tokenizer(path)
    if world.rank > 0:
        raise CheckpointError(f"{path}: not visible on rank {world.rank}; ranks share --runs-dir")
    tokenizer = build_tokenizer(recipe.data, reporter.notify)
    with explained(path, GO_ON):
        tokenizer.save(path)
    return tokenizer


def splits_of(recipe: Recipe) -> list[Split]:
    """The splits that training and the evaluators (those with an option ``split``) read."""
    evaluated = [getattr(evaluator, "split", None) for evaluator in recipe.evaluators.values()]
    return [split for split in SPLITS if split in ("train", "validation", *evaluated)]


def _text(recipe: Recipe, directory: Path, world: World, reporter: Reporter) -> Text:
    tokenizer = _tokenizer(recipe, directory, world, reporter)
    check_eos(recipe.sampler, tokenizer.vocab)  # the run ends with samples
    return tokenizer, lambda split: open_blocks(
        recipe.data, split, tokenizer=tokenizer, notify=reporter.notify
    )
