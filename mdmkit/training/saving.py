"""Writing checkpoints: at once or beside the loop, whole or not at all.

A checkpoint is written under a temporary name by all ranks; when everything is on the disk, rank 0
adds the manifest and renames it. What a checkpoint consists of: `mdmkit.training.checkpoint`.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint._state_dict_stager import StateDictStager

from mdmkit.environment import environment
from mdmkit.errors import CheckpointError
from mdmkit.files import sha256_file, sync_directory, sync_file, write_json
from mdmkit.runs.checkpoints import (
    FORMAT,
    MANIFEST,
    STATE,
    checkpoints_dir,
    drop,
    expired,
    step_name,
    steps_on_disk,
)
from mdmkit.training.distributed import World
from mdmkit.training.tensor_files import write_tensors

if TYPE_CHECKING:
    from mdmkit.recipe import Train

T = TypeVar("T")


class Saver:
    """Writes checkpoints while the loop goes on, so many at once as it is allowed.

    `save` copies the state to the host's memory and returns; a thread on each rank writes the
    copy, over a process group of its own. Saves are written in their order, one after the other.
    """

    def __init__(self, run_dir: Path, options: Train, world: World) -> None:
        """Save into `run_dir` as ``[train]`` says; all ranks make one at the same time."""
        self._run_dir, self._options, self._world = run_dir, options, world
        in_flight = options.checkpoints_in_flight
        self._beside = world.beside() if in_flight else world
        self._thread = ThreadPoolExecutor(
            1, "mdmkit-checkpoint", initializer=_use_device, initargs=(world.device,)
        )
        # Each keeps its buffers, and gets them back when its save is done: they take turns.
        self._stagers = deque(_stager(world.device) for _ in range(in_flight))
        self._under_way: deque[Future[None]] = deque()

    @property
    def failed(self) -> bool:
        """Whether a save has failed that nobody was told of; other ranks may not know it yet."""
        return any(save.done() and save.exception() is not None for save in self._under_way)

    def idle(self) -> bool:
        """Whether nothing is under way on this rank."""
        return all(save.done() for save in self._under_way)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save a state; it may change as soon as this returns. Every rank calls it.

        Raises:
            CheckpointError: on every rank, where this save (if none may be under way) or one
                before it failed.
        """
        if self._world.sum(torch.tensor(float(self.failed))) > 0:
            self.settle()
        if not self._stagers:
            self._write(step, tensors, facts, self._world)
            return
        if len(self._under_way) == len(self._stagers):
            self._under_way.popleft().result()
        self._stagers.rotate()
        copy = _staged(self._stagers[0], tensors, self._world.device)
        self._under_way.append(
            self._thread.submit(self._write, step, copy, deepcopy(facts), self._beside)
        )

    def settle(self) -> None:
        """Wait until nothing is under way. Every rank calls it.

        Raises:
            CheckpointError: on every rank, the first failure.
        """
        while self._under_way:
            self._under_way.popleft().result()

    def close(self) -> None:
        """Wait for the thread to end. A failure that nobody waited for is not raised any more."""
        self._thread.shutdown()

    def _write(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], world: World
    ) -> None:
        keep, keep_every = self._options.keep_checkpoints, self._options.keep_every
        save_checkpoint(
            self._run_dir, step, tensors, facts, world=world, keep=keep, keep_every=keep_every
        )


def _stager(device: torch.device) -> StateDictStager:
    """Copies a state into memory that it keeps for the next one.

    The public ``DefaultStager`` does this with one of these; that of torch 2.11 throws it away
    after its first copy, so that a second checkpoint fails.
    """
    return StateDictStager(pin_memory=device.type == "cuda")


def _staged(
    stager: StateDictStager, tensors: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """The state in the host's memory."""
    cuda = device.type == "cuda"
    copy = cast("dict[str, Tensor]", stager.stage(dict(tensors), non_blocking=cuda))
    if cuda:
        torch.cuda.synchronize(device)  # one wait for all copies
    return copy


def _use_device(device: torch.device) -> None:
    """Threads begin on device 0, whatever the others of their process use."""
    if device.index is not None:  # of a GPU that is one of several
        torch.cuda.set_device(device)


def save_checkpoint(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    *,
    world: World,
    keep: int,
    keep_every: int = 0,
) -> None:
    """Write the checkpoint of `step` and drop the older ones that are `expired`.

    Every rank calls it with its own shards. What fails on one, all of them raise.

    Raises:
        CheckpointError: where it cannot be written; older checkpoints are left as they were.
    """
    folder = checkpoints_dir(run_dir)
    temporary, final = folder / f".tmp-{step_name(step)}", folder / step_name(step)

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()

    def complete(entries: dict[str, Any]) -> None:
        write_json(temporary / STATE, {"step": step, **facts})
        write_json(temporary / MANIFEST, _manifest(temporary, step, world, entries))
        sync_directory(temporary)
        if final.exists():
            raise _said_once(f"{final}: exists already; nothing was overwritten")
        temporary.rename(final)
        sync_directory(folder)

    try:
        _on_rank_zero(world, prepare)
        distributed = world.size > 1
        write_tensors(temporary, tensors, distributed=distributed, group=world.group)
        # Each rank reads back what it wrote: rank 0 alone would take as many times as long.
        written = _together(world, lambda: _entries(temporary.glob(f"__{world.rank}_*")))
        _on_rank_zero(world, lambda: complete({n: e for own in written for n, e in own.items()}))
    except OSError as error:
        if world.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        last = steps_on_disk(run_dir)
        kept = f"the checkpoint of step {last[-1]} is kept" if last else "there is none before it"
        raise _said_once(
            f"{final}: cannot be saved ({error.strerror or error}); {kept}. Make room or choose "
            "another --runs-dir, then start the same command again: it goes on from there"
        ) from error
    _on_rank_zero(world, lambda: _drop(folder, expired(steps_on_disk(run_dir), keep, keep_every)))


def _manifest(path: Path, step: int, world: World, entries: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the checkpoint at `path` whole; `entries` are those of files already looked at."""
    others = (file for file in path.iterdir() if file.name not in entries)
    return {
        "format": FORMAT,
        "step": step,
        "ranks": world.size,
        "environment": environment(world.device),
        "files": dict(sorted({**entries, **_entries(others)}.items())),
    }


def _entries(files: Iterable[Path]) -> dict[str, Any]:
    """Size and hash of each file, by name, once its content is on the disk."""
    entries = {}
    for file in files:
        sync_file(file)
        entries[file.name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    return entries


def _drop(folder: Path, steps: Iterable[int]) -> None:
    """Remove checkpoints."""
    for step in steps:
        try:
            drop(folder / step_name(step))
        except OSError as error:
            raise _said_once(
                f"{folder / step_name(step)}: cannot be dropped ({error.strerror or error}); "
                "remove it, or set train.keep_checkpoints = 0 to keep all"
            ) from error


def _on_rank_zero(world: World, work: Callable[[], None]) -> None:
    """Do `work` on rank 0; where it fails, every rank raises the error."""
    _together(world, work if world.rank == 0 else lambda: None)


def _together(world: World, work: Callable[[], T]) -> list[T]:
    """What `work` gives on each rank; where it fails on one, every rank raises the error."""
    outcome: T | OSError | CheckpointError
    try:
        outcome = work()
    except (OSError, CheckpointError) as error:
        outcome = error
    results: list[T] = []
    for found in world.gather(outcome):
        if isinstance(found, OSError | CheckpointError):
            raise found
        results.append(found)
    return results


def _said_once(message: str) -> CheckpointError:
    error = CheckpointError(message)
    error.everywhere = True
    return error
