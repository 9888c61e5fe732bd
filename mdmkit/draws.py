"""Random numbers as a function of (seed, step, stream name), never as a state.

A step's numbers are drawn for the whole global batch and dealt out by row, so that the number of
ranks, of micro-batches, and an interruption change nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import stratify
from mdmkit.protocols import Stratification


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of `parts` and looks unrelated for different parts."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@frozen(kw_only=True, eq=False)
class StepDraws:
    """The random numbers of one step, as `mdmkit.protocols.Draws`.

    Attributes:
        seed: of the run or the evaluation.
        step: which step.
        rows: ``[B]`` int64, the rows of the global batch that are wanted.
        global_rows: G, the rows of the global batch.
    """

    seed: int
    step: int
    rows: Tensor
    global_rows: int

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        """``[B, *shape]`` float32, uniform on [0, 1); rows of a group get the same numbers."""
        source = generator(self.seed, self.step, stream)
        drawn = torch.rand(-(-self.global_rows // group), *shape, generator=source)
        return drawn[self.rows // group]

    def strata(self, stream: str, kind: Stratification, *, group: int = 1) -> Tensor:
        """``[B]`` float64 in (0, 1), stratified over the groups of the global batch."""
        source = generator(self.seed, self.step, stream)
        groups = -(-self.global_rows // group)
        noise = torch.rand(groups, generator=source, dtype=torch.float64)
        return stratify(noise, kind)[self.rows // group]


class RowStreams:
    """A stream of noise for each row of a generation, whatever batch the row is in."""

    def __init__(self, seed: int, rows: Sequence[int], length: int) -> None:
        """Make streams for the row numbers `rows`, each giving `length` numbers at a time."""
        self._sources = [generator(seed, "generation", row) for row in rows]
        self._length = length

    def __call__(self) -> Tensor:
        """The next noise of each row: ``[B, L]`` float64 on [0, 1)."""
        drawn = [
            torch.rand(self._length, generator=source, dtype=torch.float64)
            for source in self._sources
        ]
        return torch.stack(drawn)
