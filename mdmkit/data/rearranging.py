"""Blocks whose text does not stand where it stood: what locality is taken away with.

`Rearranged` moves the tokens of each block about in it; `EveryNth` puts into a block tokens that
are far apart in the text.

Shapes: B blocks, L positions. An *order* ``[B, L]`` int64 says which position of the text each
position of the block takes its token from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from attrs import Factory, evolve, frozen

from mdmkit.data.cuts import Cut, Pieces, Places
from mdmkit.draws import generator
from mdmkit.values import Batch

if TYPE_CHECKING:
    from torch import Tensor

Arrangement = Literal["shuffled", "fixed", "strided"]


@frozen(kw_only=True)
class Rearranged:
    """Blocks of another cut, the real tokens of each in another order; padding stays at the end.

    Attributes:
        cut: makes the blocks.
        arrangement: which order.
        seed: of the orders that are drawn.
        stride: of ``strided``.
    """

    cut: Cut
    arrangement: Arrangement
    seed: int
    stride: int

    @property
    def dropped(self) -> int:
        """As without."""
        return self.cut.dropped

    @property
    def facts(self) -> Mapping[str, int]:
        """As without."""
        return self.cut.facts

    def __len__(self) -> int:
        return len(self.cut)

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]``; what may be masked moves with its token."""
        text = self.cut.batch(rows)
        real = text.tokens >= 0 if text.real is None else text.real
        order = ARRANGEMENTS[self.arrangement](self, rows, real)
        return evolve(
            text,
            tokens=text.tokens.gather(1, order),
            maskable=None if text.maskable is None else text.maskable.gather(1, order),
        )

    def documents(self, rows: Tensor) -> Tensor:
        """As without: the document that the text of each block begins in."""
        return self.cut.documents(rows)

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """As without."""
        return self.cut.utf8_bytes(rows)


def shuffled(cut: Rearranged, rows: Tensor, real: Tensor) -> Tensor:
    """An order of its own for each block, a function of the seed and the block's number."""
    import torch

    length = real.shape[1]
    drawn = [
        torch.rand(length, generator=generator(cut.seed, "rearranged", row), dtype=torch.float64)
        for row in rows.tolist()
    ]
    return _sorted_by(torch.stack(drawn) if drawn else real.double(), real)


def fixed(cut: Rearranged, rows: Tensor, real: Tensor) -> Tensor:  # noqa: ARG001 - the signature
    """One order for all blocks; of a shorter text it is that of the positions that there are."""
    import torch

    source = generator(cut.seed, "rearranged")
    drawn = torch.rand(real.shape[1], generator=source, dtype=torch.float64)
    return _sorted_by(drawn.expand(real.shape), real)


def strided(cut: Rearranged, rows: Tensor, real: Tensor) -> Tensor:  # noqa: ARG001 - the signature
    """The text goes to the positions 0, s, 2s, …, then 1, 1 + s, …: neighbours stand s apart."""
    import torch

    place = torch.arange(real.shape[1])
    column = (place % cut.stride) * len(place) + place
    goes_to = _sorted_by(column.double().expand(real.shape), real)  # of the text, in its order
    return goes_to.argsort(dim=-1)


def _sorted_by(keys: Tensor, real: Tensor) -> Tensor:
    """The real positions by their keys, lowest first, then the others as they stand: ``[B, L]``."""
    return keys.masked_fill(~real, float("inf")).argsort(dim=-1, stable=True)


ARRANGEMENTS: Mapping[Arrangement, Callable[[Rearranged, Tensor, Tensor], Tensor]] = {
    "shuffled": shuffled,
    "fixed": fixed,
    "strided": strided,
}
"""Orders by name: of a cut, blocks ``[B]`` and ``real [B, L]`` (True first, then padding)."""


@frozen(kw_only=True)
class EveryNth:
    """Blocks of every `stride`-th token of a stretch of text; the last stretch is dropped.

    A stretch of L·stride tokens makes `stride` blocks, one for each token it can begin at.

    Attributes:
        stretches: the text, a stretch each.
        stride: how far apart in the text the neighbours in a block are.
    """

    stretches: Pieces
    stride: int
    facts: Mapping[str, int] = Factory(dict)

    @property
    def dropped(self) -> int:
        """Tokens after the last whole stretch."""
        return self.stretches.dropped

    def __len__(self) -> int:
        return len(self.stretches) * self.stride

    def batch(self, rows: Tensor) -> Batch:
        """The blocks ``rows [B]``."""
        import torch

        store, width = self.stretches.store, self.stretches.width
        begins = self._begins(rows)
        store.expect(begins, width)
        places = begins[:, None] + self._within(rows)
        return Batch(tokens=torch.from_numpy(store.tokens[places].astype("int64")), rows=rows)

    def documents(self, rows: Tensor) -> Tensor:
        """The document that the stretch of each block begins in, ``[B]``."""
        return self.stretches.documents(rows // self.stride)

    def utf8_bytes(self, rows: Tensor) -> Tensor:
        """Its share of the bytes of the stretch that it is of, ``[B]``."""
        return self.stretches.utf8_bytes(rows // self.stride) / self.stride

    def _begins(self, rows: Tensor) -> Places:
        """Where in the store the stretch of each block begins, ``[B]``."""
        places: Places = (rows // self.stride).numpy() * self.stretches.width
        return places

    def _within(self, rows: Tensor) -> Places:
        """Where in the stretch the tokens of each block are, ``[B, L]``."""
        import torch

        every = torch.arange(0, self.stretches.width, self.stride)
        places: Places = ((rows % self.stride)[:, None] + every).numpy()
        return places
