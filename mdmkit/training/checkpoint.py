"""Checkpoints: whole or not there, verified, and safe to open.

A checkpoint is a directory ``step-…`` with the tensors in torch's distributed format, the plain
facts in ``state.json``, and ``manifest.json`` with size and sha256 of every file. torch's format
notices neither a flipped byte nor an overwrite: what makes a checkpoint whole is that its manifest
verifies. `mdmkit.training.saving` writes them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.data.cache import Notify, ignore
from mdmkit.errors import CheckpointError
from mdmkit.plain_files import read_json
from mdmkit.runs.checkpoints import (
    FORMAT,
    MANIFEST,
    STATE,
    checkpoints_dir,
    damage,
    step_name,
    step_of,
    steps_on_disk,
)
from mdmkit.training.distributed import World
from mdmkit.training.tensor_files import read_tensors, tensor_sizes

__all__ = [
    "FORMAT", "MANIFEST", "STATE", "Weights", "checkpoints_dir", "damage", "last_checkpoint",
    "load_checkpoint", "load_weights", "step_name", "step_of", "steps_on_disk",
]  # fmt: skip


@frozen(kw_only=True)
class Weights:
    """A network's weights out of a checkpoint.

    Attributes:
        state: whole tensors on the CPU, named as in ``Root.state_dict()``.
        step: the optimizer steps behind them.
        averaged: the names of those that are averages.
    """

    state: dict[str, Tensor]
    step: int
    averaged: frozenset[str] = frozenset()

    @property
    def ema(self) -> bool:
        """Whether they are the averaged ones."""
        return bool(self.averaged)

    def fit(self, root: nn.Module) -> dict[str, Tensor]:
        """The state for `root`, in which one parameter may have several names (tied weights).

        An average is kept under the first of them, and is meant by all under which `root` keeps
        its state.
        """
        state, kept = dict(self.state), root.state_dict().keys()
        first: dict[nn.Parameter, str] = {}
        for name, parameter in root.named_parameters(remove_duplicate=False):
            known = first.setdefault(parameter, name)
            if known in self.averaged and name in kept:
                state[name] = state[known]
        return state


def last_checkpoint(run_dir: Path, notify: Notify) -> Path | None:
    """The newest whole checkpoint, or None.

    Left-over temporaries are removed. A damaged checkpoint is set aside as ``bad-step-…`` and
    said; the one before it is tried next.
    """
    folder = checkpoints_dir(run_dir)
    for leftover in folder.glob(".tmp-*"):
        if leftover.is_symlink() or not leftover.is_dir():
            leftover.unlink()
        else:
            shutil.rmtree(leftover)
    for step in reversed(steps_on_disk(run_dir)):
        path = folder / step_name(step)
        problem = damage(path)
        if problem is None:
            return path
        aside = _free_name(folder / f"bad-{path.name}")
        path.rename(aside)
        notify(f"{path}: {problem}; set aside as {aside.name}, trying the one before")
    return None


def load_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    world: World,
    fresh: Collection[str] = (),
) -> dict[str, Any]:
    """Fill `tensors` in place from the checkpoint at `path` and return its facts.

    Args:
        path: of the checkpoint.
        tensors: by name.
        world: every rank calls this.
        fresh: tables whose components' state is neither asked for nor looked at.

    Raises:
        CheckpointError: where names or shapes differ from what the recipe builds.
    """
    prefixes = tuple(f"components/{table}/" for table in fresh)
    tensors = {name: t for name, t in tensors.items() if not name.startswith(prefixes)}
    there = {n: size for n, size in tensor_sizes(path).items() if not n.startswith(prefixes)}
    wanted = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if there != wanted:
        odd = sorted(
            name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)
        )
        lines = [f"  {name}: checkpoint {there.get(name)}, run {wanted.get(name)}" for name in odd]
        raise CheckpointError(
            f"{path}: does not fit this recipe's network and optimizer:\n" + "\n".join(lines[:8])
        )
    read_tensors(path, tensors, distributed=world.size > 1)
    return _facts(path)


def _facts(path: Path) -> dict[str, Any]:
    """The plain facts of a checkpoint."""
    try:
        facts = read_json(path / STATE)
        if not isinstance(facts, dict) or facts.get("step") != step_of(path):
            raise ValueError(f"it does not say that it is of step {step_of(path)}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / STATE}: cannot be read ({error})") from error
    return facts


def load_weights(
    run_dir: Path, *, step: int | None = None, ema: bool = True, notify: Notify = ignore
) -> Weights:
    """The weights of a run, for evaluation and generation.

    Args:
        run_dir: the run directory.
        step: of which checkpoint; the newest whole one by default.
        ema: the averaged weights where the run keeps an average, else the raw ones.
        notify: is told of damaged checkpoints that are passed over.

    Raises:
        CheckpointError: without such a checkpoint, or with a damaged one.
    """
    path = _whole_checkpoint(run_dir, step, notify)
    sizes = tensor_sizes(path)
    kept = (name.removeprefix("ema/") for name in sizes if ema and name.startswith("ema/"))
    averaged = frozenset(kept)
    names = {
        f"ema/{name}" if name in averaged else f"model/{name}": name
        for name in (n.removeprefix("model/") for n in sizes if n.startswith("model/"))
    }
    tensors = {stored: torch.empty(sizes[stored]) for stored in names}
    read_tensors(path, tensors, distributed=False)
    state = {names[stored]: tensor for stored, tensor in tensors.items()}
    return Weights(state=state, step=step_of(path), averaged=averaged)


def _whole_checkpoint(run_dir: Path, step: int | None, notify: Notify) -> Path:
    """The checkpoint of `step`, or the newest whole one; nothing on the disk is changed."""
    steps = steps_on_disk(run_dir)
    for candidate in reversed(steps):
        path = checkpoints_dir(run_dir) / step_name(candidate)
        if step not in (None, candidate):
            continue
        problem = damage(path)
        if problem is None:
            return path
        notify(f"{path}: damaged ({problem}); passed over")
    wanted = "there is no whole checkpoint" + ("" if step is None else f" of step {step}")
    others = f"found those of steps {', '.join(map(str, steps))}" if steps else "found none"
    raise CheckpointError(
        f"{run_dir}: {wanted}; {others}. Choose another with --checkpoint, or train on with "
        f"`mdmkit run --resume {run_dir}`"
    )


def _free_name(path: Path) -> Path:
    number = 1
    candidate = path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
