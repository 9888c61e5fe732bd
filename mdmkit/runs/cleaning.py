"""Old checkpoints of runs, removed so that one that is whole always stays."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.plain_files import read_json
from mdmkit.runs.checkpoints import (
    checkpoints_dir,
    damage,
    drop,
    expired,
    step_name,
    steps_on_disk,
)
from mdmkit.runs.folder import require_own_files
from mdmkit.runs.lock import LOCK, is_held, take
from mdmkit.runs.status import read_plain_recipe

BRANCH = "branch.json"


@frozen(kw_only=True)
class Wish:
    """What is to stay.

    Attributes:
        keep: how many of the newest whole checkpoints; at least 1.
        all_but_last: whether those that ``train.keep_every`` keeps go, too.
    """

    keep: int = 1
    all_but_last: bool = False


@frozen(kw_only=True)
class Removal:
    """A folder that goes.

    Attributes:
        path: of the folder.
        what: why it may go, in words.
        size: bytes that this frees.
    """

    path: Path
    what: str
    size: int


@frozen(kw_only=True)
class Plan:
    """What goes of a run and what stays.

    Attributes:
        directory: of the run.
        keeps: the steps of the checkpoints that stay, rising.
        removals: what goes.
        notes: what is odd, or why nothing goes.
        error: what kept the rest from being removed, or None.
    """

    directory: Path
    keeps: tuple[int, ...] = ()
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    @property
    def size(self) -> int:
        """Bytes that it frees."""
        return sum(removal.size for removal in self.removals)

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "directory": str(self.directory),
            "keeps": list(self.keeps),
            "removals": [
                {"path": str(removal.path), "what": removal.what, "size": removal.size}
                for removal in self.removals
            ],
            "notes": list(self.notes),
            "error": self.error,
        }


def plan(directory: Path, wish: Wish) -> Plan:
    """What could go of the run in `directory`; nothing is changed.

    The checkpoints that stay are verified, which reads them. A run that is running or damaged is
    left alone, and so is one without a whole checkpoint or that cannot be looked at.
    """
    try:
        if is_held(directory):
            return Plan(directory=directory, notes=("is running; left alone",))
        return _plan(directory, wish)
    except CheckpointError as error:
        return Plan(directory=directory, notes=(f"is damaged; left alone ({error})",))
    except OSError as error:
        return Plan(directory=directory, notes=(f"cannot be looked at; left alone ({error})",))


def clean(planned: Plan, wish: Wish) -> Plan:
    """Remove what was planned, as far as that still may go, and say what was removed.

    Where the run is in use, or something cannot be removed, that is the `error` of what is given
    back; nothing is raised.
    """
    directory, gone = planned.directory, []
    wanted = {removal.path for removal in planned.removals}
    notes, error = planned.notes, None
    try:
        with _held(directory):
            now = _plan(directory, wish)
            notes = now.notes
            for removal in now.removals:
                if removal.path in wanted and not _is_needed(directory, removal.path):
                    _remove(removal.path)
                    gone.append(removal)
    except CheckpointError as problem:
        error = str(problem)
    except OSError as problem:
        error = f"{directory}: cannot be looked at ({problem.strerror or problem}); left alone"
    return Plan(
        directory=directory,
        keeps=tuple(steps_on_disk(directory)),
        removals=tuple(gone),
        notes=notes,
        error=error,
    )


def _plan(directory: Path, wish: Wish) -> Plan:
    require_own_files(directory)
    keep_every = _keep_every(directory, wish)
    folder, steps = checkpoints_dir(directory), steps_on_disk(directory)
    leftovers = _removals(folder.glob(".tmp-*"), "left over")
    aside = _removals(folder.glob("bad-step-*"), "damaged, set aside")
    if not aside and not expired(steps, wish.keep, keep_every):
        return Plan(directory=directory, keeps=tuple(steps), removals=leftovers)
    whole, notes = _newest_whole(folder, steps, wish.keep)
    if not whole:
        notes.append("has no whole checkpoint; all are left, for what they may still be good for")
        return Plan(directory=directory, keeps=tuple(steps), removals=leftovers, notes=tuple(notes))
    needed = _needed_by_branches(directory)
    older = [step for step in steps if step < min(whole) and step not in needed]
    older = [step for step in older if keep_every == 0 or step % keep_every]
    if len(whole) < wish.keep:  # then these are damaged, and were said to be left
        older = []
    paths = [folder / step_name(step) for step in older]
    checkpoints = _removals((path for path in paths if not path.is_symlink()), "older checkpoint")
    gone = {int(removal.path.name.removeprefix("step-")) for removal in checkpoints}
    return Plan(
        directory=directory,
        keeps=tuple(step for step in steps if step not in gone),
        removals=(*leftovers, *aside, *checkpoints),
        notes=tuple(notes),
    )


def _newest_whole(folder: Path, steps: list[int], keep: int) -> tuple[list[int], list[str]]:
    """The newest whole checkpoints, and what is wrong with those that are passed over."""
    whole: list[int] = []
    notes: list[str] = []
    for step in reversed(steps):
        if len(whole) == keep:
            break
        problem = damage(folder / step_name(step))
        if problem is None:
            whole.append(step)
        else:
            notes.append(f"{step_name(step)} is damaged ({problem}); left")
    return whole, notes


def _keep_every(directory: Path, wish: Wish) -> int:
    """What the recipe of the run says of checkpoints that are kept for ever."""
    keep_every = read_plain_recipe(directory)["train"].get("keep_every", 0)
    if type(keep_every) is not int or keep_every < 0:
        raise CheckpointError(f"{directory}: its recipe says train.keep_every = {keep_every!r}")
    return 0 if wish.all_but_last else keep_every


def _needed_by_branches(directory: Path) -> set[int]:
    """The steps that branches beside this run have not copied yet."""
    own, needed = directory.resolve().name, set()
    for path in directory.resolve().parent.glob(f"*/{BRANCH}"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            branch = read_json(path)
            if branch["from"] == own and branch.get("whole") is False:
                needed.add(int(branch["step"]))
    return needed


def _is_needed(directory: Path, path: Path) -> bool:
    """Whether a branch that has begun since the plan is about to copy the checkpoint at `path`."""
    return path.name in {step_name(step) for step in _needed_by_branches(directory)}


def _removals(paths: Iterable[Path], what: str) -> tuple[Removal, ...]:
    return tuple(Removal(path=path, what=what, size=_size(path)) for path in sorted(paths))


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())


def _remove(path: Path) -> None:
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif path.name.startswith(".tmp-"):
            shutil.rmtree(path)
        else:
            drop(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be removed ({error.strerror or error}); what stays is whole"
        ) from error


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """The lock of the run, so that nobody trains there meanwhile."""
    try:
        lock = (directory / LOCK).open("a")
    except OSError as error:
        raise _in_use(directory, error) from error
    with lock:
        try:
            take(lock)
        except OSError as error:
            raise _in_use(directory, error) from error
        yield


def _in_use(directory: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{directory}: is in use, or cannot be locked ({error.strerror or error}); left alone"
    )
