"""The pool: which sequence each row of the global batch has, and how much of it is hidden.

A rank writes the rows it trains, and no others, so its copy is right for these alone; what is
saved is put together from all ranks, and so a run may go on with another number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_ROWS = ("step", "stage", "tokens", "documents", "flags")
_REAL, _SCORED, _MASKED, _LEFT = 1, 2, 4, 8


class Seats(NamedTuple):
    """Some rows of the pool at one step, on the CPU. It travels with the task that is made of it.

    Attributes:
        rows: ``[B]`` int64, their numbers in the global batch.
        step: at which they are trained.
        stage: ``[B]`` int64 in [0, K), or K and more for a row that is done.
        tokens: ``[B, L]`` int64, x0.
        documents: ``[B, L]`` int64, 0 where attention knows of none.
        real, scored: ``[B, L]`` bool, as `mdmkit.values.Batch` has them.
        masked: ``[B, L]`` bool, what is hidden.
    """

    rows: Tensor
    step: int
    stage: Tensor
    tokens: Tensor
    documents: Tensor
    real: Tensor
    scored: Tensor
    masked: Tensor


class Pool:
    """The sequences of all rows: as they were last trained, and what stays hidden after that."""

    def __init__(self, *, rows: int, length: int) -> None:
        """A pool without sequences, for so many rows of so many tokens."""
        self.step = torch.full((rows,), -1)  # at which the row was trained; -1: never
        self.stage = torch.zeros(rows, dtype=torch.int64)
        self.tokens = torch.zeros(rows, length, dtype=torch.int64)
        self.documents = torch.zeros(rows, length, dtype=torch.int64)
        self.flags = torch.zeros(rows, length, dtype=torch.uint8)
        self._coming: list[tuple[Seats, Callable[[], Tensor]]] = []

    def seats(self, rows: Tensor, step: int, length: int) -> tuple[Tensor, Seats]:
        """The rows ``rows [B]`` as they were trained at `step`, or else as they come out of the
        step before.

        Returns:
            ``[B]`` bool, True for a row that was trained at `step` already; and the rows. Where a
            row was never trained, nothing of it means anything.
        """
        self.settle()
        self._reach(rows)
        flags = self.flags[rows, :length]
        again = self.step[rows] == step
        hidden = torch.where(again[:, None], flags & _MASKED, flags & _LEFT) > 0
        return again, Seats(
            rows=rows,
            step=step,
            stage=self.stage[rows],
            tokens=self.tokens[rows, :length],
            documents=self.documents[rows, :length],
            real=flags & _REAL > 0,
            scored=flags & _SCORED > 0,
            masked=hidden,
        )

    def _reach(self, rows: Tensor) -> None:
        """Make room for row numbers past the global batch: estimates of memory ask for any."""
        more = int(rows.max()) + 1 - len(self.step) if len(rows) else 0
        if more > 0:
            self.step = torch.cat([self.step, torch.full((more,), -1)])
            for name in _ROWS[1:]:
                part = getattr(self, name)
                setattr(self, name, torch.cat([part, part.new_zeros(more, *part.shape[1:])]))

    def empty(self, rows: Tensor) -> Tensor:
        """Which of the rows never had a sequence: ``[B]`` bool."""
        return self.step[rows] < 0

    def trained(self, seats: Seats, left: Tensor) -> None:
        """Take note that `seats` were trained, and of what stays hidden: ``left [B, L]`` bool.

        `left` may lie on a GPU that has yet to work it out: it is looked at when it is needed.
        """
        if not left.is_meta:  # there, nothing has a value
            self._coming.append((seats, on_cpu(left)))

    def settle(self) -> None:
        """Wait for all that is still to come from the device."""
        coming, self._coming = self._coming, []
        for seats, left in coming:
            length = seats.tokens.shape[-1]
            self.step[seats.rows] = seats.step
            self.stage[seats.rows] = seats.stage
            self.tokens[seats.rows, :length] = seats.tokens
            self.documents[seats.rows, :length] = seats.documents
            parts = ((_REAL, seats.real), (_SCORED, seats.scored), (_MASKED, seats.masked))
            flags = torch.zeros(seats.masked.shape, dtype=torch.uint8)
            for bit, where in (*parts, (_LEFT, left())):
                flags += bit * where.to(torch.uint8)
            self.flags[seats.rows, :length] = flags

    def state_dict(self) -> dict[str, Tensor]:
        """The whole pool, the same on every rank; with several ranks all of them must call it."""
        self.settle()
        state = {name: getattr(self, name) for name in _ROWS}
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return state
        newest = _highest(self.step)
        return {name: _highest(_kept(part, self.step == newest)) for name, part in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`, of any number of ranks."""
        self._coming = []
        for name in _ROWS:
            getattr(self, name).copy_(state[name])


def _kept(part: Tensor, rows: Tensor) -> Tensor:
    """``part [G, ...]`` with −1 (0 in what has no sign) in all rows but ``rows [G]``."""
    nothing = 0 if part.dtype == torch.uint8 else -1
    return torch.where(rows.view(-1, *[1] * (part.ndim - 1)), part, nothing)


def _highest(part: Tensor) -> Tensor:
    """The elementwise maximum over all ranks: every number of the pool is at least −1."""
    found = part.clone()
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return found


def on_cpu(tensor: Tensor) -> Callable[[], Tensor]:
    """A function that gives `tensor` on the CPU; the copy begins now, and only it is waited for."""
    if not tensor.is_cuda:
        return tensor.cpu
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()

    def arrived() -> Tensor:
        done.synchronize()
        return copy

    return arrived
