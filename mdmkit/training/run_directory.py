"""The directory of a run: its name, its lock, and the recipe it belongs to."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mdmkit.errors import CheckpointError
from mdmkit.files import explained, write_atomic, write_json
from mdmkit.plain_files import read_json
from mdmkit.recipe import (
    Recipe,
    differing_keys,
    dump_recipe,
    recipe_hash,
    recipe_toml,
    split_layout,
)
from mdmkit.runs.folder import RESOLVED, require_own_files, runs_root
from mdmkit.runs.lock import LOCK, take
from mdmkit.training.distributed import World

if TYPE_CHECKING:
    from mdmkit.training.branch import Branch

__all__ = [
    "RESOLVED",
    "open_run",
    "require_own_files",
    "require_tables",
    "run_directory",
    "runs_root",
]


def run_directory(
    recipe: Recipe, runs_dir: str | Path | None = None, branch: Branch | None = None
) -> Path:
    """Where the runs of `recipe` live: name and short hash, so that a change gets its own.

    A run that branches off has a hash of its recipe and of the branching point.
    """
    digest = recipe_hash(recipe)
    if branch is not None:
        digest = hashlib.sha256(f"{digest} from {branch.key}".encode()).hexdigest()[:8]
    return runs_root(runs_dir) / f"{recipe.run.name}-{digest}"


@contextlib.contextmanager
def open_run(
    recipe: Recipe,
    directory: Path,
    world: World,
    branch: Branch | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Iterator[Path]:
    """Hold the run directory of `recipe`, made if it is not there.

    With a branch, it begins with what the other run had at that step. `notify` is told of a layout
    that is not the one of before.

    Raises:
        CheckpointError: where it holds another recipe's run (every differing key is named), is
            in use by another process, or cannot be made or written.
    """
    if world.rank > 0:
        world.wait()
        yield directory
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        require_own_files(directory)
        lock = (directory / LOCK).open("a")
    except OSError as error:
        raise CheckpointError(
            f"{directory}: cannot be made ({error.strerror}); choose another place with --runs-dir"
        ) from error
    with lock:
        try:
            take(lock)
        except OSError as error:
            raise CheckpointError(
                f"{directory}: another process is training here; wait for it, or stop it"
            ) from error
        _claim(recipe, directory, notify)
        if branch is not None:
            branch.copy_into(directory, recipe)
        world.wait()
        yield directory


def _claim(recipe: Recipe, directory: Path, notify: Callable[[str], None]) -> None:
    """Write the recipe down, or make sure that it is the one already there, but for its layout."""
    resolved = dump_recipe(recipe)
    try:
        saved = read_json(directory / RESOLVED)
    except FileNotFoundError:
        _write_down(recipe, directory)
        return
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory / RESOLVED}: is not JSON ({error}); put it back, or start anew elsewhere "
            "with --runs-dir"
        ) from error
    require_tables(saved, directory / RESOLVED)
    (old, old_layout), (new, new_layout) = split_layout(saved), split_layout(resolved)
    changed = differing_keys(old, new)
    if changed:
        raise CheckpointError(
            f"{directory}: holds the run of another recipe; it differs in\n"
            + "\n".join(f"  {line}" for line in changed)
            + "\nUndo that, or leave out --resume: a changed recipe gets a directory of its own"
        )
    moved = differing_keys(old_layout, new_layout)
    if moved:
        dropped = getattr(recipe.denoiser, "dropout", 0)
        remark = "; with dropout, other values are dropped from here on" if dropped else ""
        notify(f"{directory}: another layout than before ({', '.join(moved)}){remark}")
        _write_down(recipe, directory)


def require_tables(saved: object, path: Path) -> None:
    """Refuse what is not a recipe as plain data: tables by name.

    Raises:
        CheckpointError: where it is something else.
    """
    if not isinstance(saved, dict) or not all(isinstance(t, dict) for t in saved.values()):
        raise CheckpointError(f"{path}: is no recipe; expected the tables that were saved there")


def _write_down(recipe: Recipe, directory: Path) -> None:
    with explained(directory, "make room, or choose another place with --runs-dir"):
        write_atomic(directory / "recipe.toml", recipe_toml(recipe))
        write_json(directory / RESOLVED, dump_recipe(recipe))
