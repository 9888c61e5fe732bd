"""A run that goes on from a checkpoint of another: a cooldown from a constant rate, say.

What it needs of the other run (checkpoint, tokenizer, metrics and validations up to there) is
copied into its own directory, so that it stands by itself from then on and resumes like any run.
``branch.json`` says where it came from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from attrs import frozen

from mdmkit.data.text_tokenizer import special_path
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.evaluation.run import TOKENIZER, find_run, read_recipe
from mdmkit.files import explained, sync_directory, write_atomic, write_json
from mdmkit.metrics_log import METRICS, MetricsLog
from mdmkit.recipe import Recipe, differing_keys, dump_recipe, recipe_hash
from mdmkit.training.checkpoint import checkpoints_dir, damage, step_name, steps_on_disk
from mdmkit.validation_log import copy_until

BRANCH = "branch.json"
_SAME = ("data", "denoiser")
_REMEDY = "make room, then start the same command again"


@frozen(kw_only=True)
class Branch:
    """Where a run branches off from another.

    Attributes:
        directory: the other run's.
        recipe_hash: of the recipe that it was trained with.
        step: of the checkpoint.
    """

    directory: Path
    recipe_hash: str
    step: int

    @property
    def key(self) -> str:
        """What tells this branching point from others, wherever the other run now is."""
        return f"{self.directory.name}@{self.step}"  # the name ends in a hash of its recipe

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that cannot go on from there.

        Raises:
            RecipeError: naming every key that would have to be the same.
        """
        source, wanted = dump_recipe(read_recipe(self.directory)), dump_recipe(recipe)
        changed = [
            line
            for table in _SAME
            for line in differing_keys({table: source[table]}, {table: wanted[table]})
        ]
        batch = "global_batch_size"
        changed += differing_keys(
            {"train": {batch: source["train"][batch]}}, {"train": {batch: wanted["train"][batch]}}
        )
        if changed:
            raise RecipeError(
                f"--branch-from: text, network and batch must stay those of {self.directory}; the "
                "recipe differs in\n" + "\n".join(f"  {line}" for line in changed)
            )
        if recipe.train.steps <= self.step:
            raise RecipeError(
                f"[train] steps: expected more than the {self.step} steps that the branch begins "
                f"with, got {recipe.train.steps}"
            )

    def copy_into(self, directory: Path, recipe: Recipe) -> None:
        """Copy what the new run needs of the other, once; ``branch.json`` is written last.

        Raises:
            CheckpointError: where the checkpoint is damaged or something cannot be written.
        """
        marker = directory / BRANCH
        if marker.exists():
            return  # the directory's name is a function of the branching point
        source = checkpoints_dir(self.directory) / step_name(self.step)
        problem = damage(source)
        if problem is not None:
            raise CheckpointError(f"{source}: {problem}; branch off from another step")
        with explained(directory, _REMEDY):
            for name in (TOKENIZER, special_path(Path(TOKENIZER)).name):
                if (self.directory / name).exists():
                    write_atomic(directory / name, (self.directory / name).read_bytes())
            write_atomic(directory / METRICS, (self.directory / METRICS).read_bytes())
            copy_until(self.directory, directory, self.step)
            _copy_checkpoint(source, checkpoints_dir(directory) / source.name)
        MetricsLog(directory / METRICS).resume(self.step)
        with explained(directory, _REMEDY):
            write_json(
                marker,
                {
                    "from": self.directory.name,
                    "recipe_hash": self.recipe_hash,
                    "step": self.step,
                    "changed": self._changed_tables(recipe),
                },
            )

    def _changed_tables(self, recipe: Recipe) -> list[str]:
        source, wanted = dump_recipe(read_recipe(self.directory)), dump_recipe(recipe)
        tables = source.keys() | wanted.keys()
        return sorted(table for table in tables if source.get(table) != wanted.get(table))


def parse_branch(text: str, runs_dir: str | Path | None = None) -> Branch:
    """Read ``RUN@STEP``.

    Raises:
        RecipeError: where it is not of that form.
        CheckpointError: where there is no such run or checkpoint.
    """
    run, at, step = text.rpartition("@")
    if not (at and run and step.isdecimal()):
        raise RecipeError(f'--branch-from: expected RUN@STEP, such as lm1b_bell@5000, got "{text}"')
    directory = find_run(run, runs_dir)
    steps = steps_on_disk(directory)
    if int(step) not in steps:
        found = ", ".join(map(str, steps)) or "none"
        raise CheckpointError(
            f"--branch-from: {directory} has no checkpoint of step {step}; it has {found} "
            "(train.keep_checkpoints = 0 keeps them all)"
        )
    return Branch(
        directory=directory, recipe_hash=recipe_hash(read_recipe(directory)), step=int(step)
    )


def fresh_tables(directory: Path, step: int) -> frozenset[str]:
    """The tables whose components start afresh at the checkpoint of `step`.

    Where a branch begins, a component that the recipe changed does not get the state of the old
    one; everywhere else there are none.
    """
    marker = directory / BRANCH
    if not marker.exists():
        return frozenset()
    branch = json.loads(marker.read_text())
    return frozenset(branch["changed"]) if branch["step"] == step else frozenset()


def _copy_checkpoint(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)  # a copy that was broken off before branch.json
    shutil.copytree(source, temporary)
    temporary.rename(target)
    sync_directory(target.parent)
