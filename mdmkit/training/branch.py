"""A run that goes on from a checkpoint of another: a cooldown from a constant rate, say.

What it needs of the other run (checkpoint, tokenizer, metrics and validations up to there) is
copied into its own directory, so that it stands by itself from then on and resumes like any run.
``branch.json`` says where it came from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit import samples_log, validation_log
from mdmkit.data.text_tokenizer import special_path
from mdmkit.errors import CheckpointError, RecipeError
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.run import TOKENIZER, read_recipe
from mdmkit.files import explained, sync_directory, sync_file, write_atomic, write_json
from mdmkit.metrics_log import METRICS, MetricsLog
from mdmkit.plain_files import read_json
from mdmkit.recipe import Recipe, differing_keys, dump_recipe, recipe_hash
from mdmkit.runs.checkpoints import checkpoints_dir, damage, step_name, steps_on_disk

BRANCH = "branch.json"
_SAME = ("data", "denoiser")
_SAME_OF_TRAIN = ("global_batch_size", "validate_blocks", "validate_draws")
_REMEDY = "make room, then start the same command again"


@frozen(kw_only=True)
class Branch:
    """Where a run branches off from another.

    Attributes:
        directory: the other run's; it may be gone once the branch has begun.
        step: of the checkpoint.
        runs_dir: the folder of runs, as given.
    """

    directory: Path
    step: int
    runs_dir: str | Path | None = None

    @property
    def key(self) -> str:
        """What tells this branching point from others, wherever the other run now is."""
        return f"{self.directory.resolve().name}@{self.step}"  # the name ends in a recipe's hash

    def check(self, recipe: Recipe) -> None:
        """Refuse a recipe that cannot go on from there.

        Raises:
            CheckpointError: where there is no such run or checkpoint.
            RecipeError: naming every key that would have to be the same.
        """
        find_run(self.directory, self.runs_dir)
        steps = steps_on_disk(self.directory)
        if self.step not in steps:
            found = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(
                f"--branch-from: {self.directory} has no checkpoint of step {self.step}; it has "
                f"{found} (train.keep_checkpoints = 0 keeps them all, train.keep_every some)"
            )
        source, wanted = dump_recipe(read_recipe(self.directory)), dump_recipe(recipe)
        changed = differing_keys(_fixed(source), _fixed(wanted))
        if changed:
            raise RecipeError(
                "--branch-from: text, network, batch and validation must stay those of "
                f"{self.directory}; the recipe differs in\n"
                + "\n".join(f"  {line}" for line in changed)
            )
        if recipe.train.steps <= self.step:
            raise RecipeError(
                f"[train] steps: expected more than the {self.step} steps that the branch begins "
                f"with, got {recipe.train.steps}"
            )

    def copy_into(self, directory: Path, recipe: Recipe) -> None:
        """Copy what the new run needs of the other, once; the last thing is to say it is whole.

        Raises:
            CheckpointError: where the checkpoint is damaged or something cannot be written.
        """
        if begun(directory):
            return
        source = checkpoints_dir(self.directory) / step_name(self.step)
        problem = damage(source)
        if problem is not None:
            raise CheckpointError(f"{source}: {problem}; branch off from another step")
        other = read_recipe(self.directory)
        facts = {
            "from": self.directory.resolve().name,
            "recipe_hash": recipe_hash(other),
            "seed": other.run.seed,
            "step": self.step,
            "changed": self._changed_tables(recipe),
        }
        with explained(directory, _REMEDY):
            write_json(directory / BRANCH, {**facts, "whole": False})
            for name in (TOKENIZER, special_path(Path(TOKENIZER)).name):
                if (self.directory / name).exists():
                    write_atomic(directory / name, (self.directory / name).read_bytes())
            write_atomic(directory / METRICS, (self.directory / METRICS).read_bytes())
            validation_log.copy_until(self.directory, directory, self.step)
            samples_log.copy_until(self.directory, directory, self.step)
            _copy_checkpoint(source, checkpoints_dir(directory) / source.name)
        MetricsLog(directory / METRICS).resume(self.step)
        with explained(directory, _REMEDY):
            write_json(directory / BRANCH, {**facts, "whole": True})

    def _changed_tables(self, recipe: Recipe) -> list[str]:
        source, wanted = dump_recipe(read_recipe(self.directory)), dump_recipe(recipe)
        tables = source.keys() | wanted.keys()
        return sorted(table for table in tables if source.get(table) != wanted.get(table))


def parse_branch(text: str, runs_dir: str | Path | None = None) -> Branch:
    """Read ``RUN@STEP``. Whether there is such a run is not looked at: a branch stands by itself.

    Raises:
        RecipeError: where it is not of that form.
    """
    run, at, step = text.rpartition("@")
    if not (at and run and step.isdecimal()):
        raise RecipeError(f'--branch-from: expected RUN@STEP, such as lm1b_bell@5000, got "{text}"')
    try:
        directory = find_run(run, runs_dir)
    except CheckpointError:  # `check` says so, unless the branch has begun and needs it no more
        directory = Path(run)
    return Branch(directory=directory, step=int(step), runs_dir=runs_dir)


def begun(directory: Path) -> bool:
    """Whether `directory` holds a branch that has all that it needs of the other run."""
    return bool((read_branch(directory) or {}).get("whole"))


def require_branch(directory: Path, step: int | None) -> None:
    """Refuse to train a branch from anywhere before its beginning.

    Args:
        directory: of the run.
        step: of its last whole checkpoint; None without one.

    Raises:
        CheckpointError: where it is a branch without what it began with.
    """
    branch = read_branch(directory)
    if branch is None or (branch.get("whole") and step is not None and step >= branch["step"]):
        return
    raise CheckpointError(
        f"{directory}: branches off from {branch['from']}@{branch['step']}, but holds no whole "
        "checkpoint of that step or a later one; remove the directory and start again with "
        f"--branch-from {branch['from']}@{branch['step']}"
    )


def read_branch(directory: Path) -> dict[str, Any] | None:
    """What ``branch.json`` says, or None for a run that is no branch.

    Raises:
        CheckpointError: where it cannot be read or is something else.
    """
    path = directory / BRANCH
    try:
        found = read_json(path)
        changed = found.get("changed", [])
        fits = type(found["step"]) is int and isinstance(found["from"], str)
        if not fits or not all(isinstance(table, str) for table in changed):
            raise ValueError("it does not say from which step of which run")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); put it back") from error
    return dict(found)


def _fixed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a branch must have in common with the run that it branches off from."""
    train = {key: recipe["train"][key] for key in _SAME_OF_TRAIN}
    return {**{table: recipe[table] for table in _SAME}, "train": train}


def fresh_tables(directory: Path, step: int) -> frozenset[str]:
    """The tables whose components start afresh at the checkpoint of `step`.

    Where a branch begins, a component that the recipe changed does not get the state of the old
    one; everywhere else there are none.
    """
    branch = read_branch(directory)
    if branch is None or branch["step"] != step:
        return frozenset()
    return frozenset(branch.get("changed", []))


def _copy_checkpoint(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)  # a copy that was broken off before branch.json
    shutil.copytree(source, temporary)
    for file in temporary.iterdir():
        sync_file(file)
    temporary.rename(target)
    sync_directory(target.parent)
