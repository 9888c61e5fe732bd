"""Orders in which the positions of a text are gone through, and the rows that a network is shown.

A row of any-order prediction has two inputs for each position of the text, in the order asked for:
a *query*, the mask at that position, and then the token itself. With causal attention the query
sees every token before it in the order, and the positions of the rest of the text nowhere: what
the network says there is p(token | the tokens before it, its position).

Shapes: B rows, L positions. An order ``[B, L]`` int64 lists positions, the first one first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.draws import generator
from mdmkit.values import Attention, Batch

Order = Literal["random", "left_to_right", "fixed"]


def left_to_right(length: int, seed: int) -> Tensor:  # noqa: ARG001 - the signature
    """Keys ``[L]`` float64 in [0, 1) that sort positions from left to right."""
    return torch.arange(length, dtype=torch.float64) / length


def fixed(length: int, seed: int) -> Tensor:
    """Keys ``[L]`` float64 in [0, 1) that sort positions in an order that is drawn once."""
    return torch.rand(length, generator=generator(seed, "any_order"), dtype=torch.float64)


ONE_ORDER: Mapping[str, Callable[[int, int], Tensor]] = {
    "left_to_right": left_to_right,
    "fixed": fixed,
}
"""Keys of the orders that are the same for all rows, of the length and a seed."""


def sorted_positions(keys: Tensor, *groups: Tensor) -> Tensor:
    """The order of positions by group, and by key within one: ``[B, L]``.

    Args:
        keys: ``[L]`` or ``[B, L]`` in [0, 1).
        groups: ``[B, L]`` bool, where a position is of the first group, of the second, …; one
            that is in none comes last.
    """
    rank = torch.zeros_like(groups[0], dtype=torch.float64)
    earlier = torch.zeros_like(groups[0])
    for group in groups:
        earlier = earlier | group
        rank += ~earlier
    return (rank + keys.to(rank)).argsort(dim=-1, stable=True)


@frozen(kw_only=True)
class Interleaved:
    """Rows of queries and tokens, in turn.

    Attributes:
        inputs: ``[B, 2L]`` int64; the query of the j-th position of the order is at 2j, its token
            at 2j + 1.
        attention: causal, with the positions.
    """

    inputs: Tensor
    attention: Attention

    @classmethod
    def of(cls, batch: Batch, order: Tensor, mask_id: int) -> Interleaved:
        """Those of a batch in ``order [B, L]``."""

        def twice(part: Tensor | None) -> Tensor | None:
            return None if part is None else part.gather(1, order).repeat_interleave(2, dim=-1)

        tokens = batch.tokens.gather(1, order)
        asked = batch.attention(causal=True)
        return cls(
            inputs=torch.stack([torch.full_like(tokens, mask_id), tokens], dim=-1).flatten(1),
            attention=Attention(
                causal=True,
                document_ids=twice(asked.document_ids),
                padding=twice(asked.padding),
                positions=order.repeat_interleave(2, dim=-1),
            ),
        )


def at_queries(part: Tensor) -> Tensor:
    """``part [B, L]`` bool at the queries of rows in that order, nothing at tokens: ``[B, 2L]``."""
    return torch.stack([part, torch.zeros_like(part)], dim=-1).flatten(1)
