"""Masks with a given surrounding of one token, and as many masked tokens whatever it is.

A row has one target. Its field are the scored tokens of its document (of its row, where documents
see each other); k of the n tokens of a field are masked, the target among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import uniform_subset
from mdmkit.values import Batch


@frozen(kw_only=True)
class Look:
    """What a target sees of its surroundings.

    Attributes:
        left, right: so many tokens next to it are hidden on that side. What is near is otherwise
            as in the look that hides none; for each token that is hidden one is shown far away.
        shown: whether the first beyond these is visible on both sides, at left + 1 and right + 1.
            The other masks are then a uniform subset: altogether the law of a uniform subset,
            given that these are the nearest visible tokens.
        blind: nothing at all is visible in its field.
    """

    left: int = 0
    right: int = 0
    shown: bool = False
    blind: bool = False


@frozen(kw_only=True, eq=False)
class Scene:
    """Rows with a target each, and the noise that decides what else is masked.

    Attributes:
        batch: B rows.
        target: ``[B]`` int64, its position.
        noise: ``[B, L]`` on [0, 1); the same in all looks at a target, whose masks differ little.
        share: k/n, before it is rounded.
        reach: tokens up to this distance are near, the others far.
    """

    batch: Batch
    target: Tensor
    noise: Tensor
    share: float
    reach: int

    def masks(self, looks: Sequence[Look]) -> Tensor:
        """What is masked: ``[B, L]`` bool.

        Args:
            looks: one a row; see `rooms` for how far they may reach.
        """
        scored, field = self.batch.scored(), self.field
        mask = uniform_subset(self._order(looks), masked_counts(field.sum(-1), self.share), field)
        blind = torch.tensor([look.blind for look in looks])[:, None]
        others = scored & ~field
        mask |= blind & field
        mask |= uniform_subset(self.noise, masked_counts(others.sum(-1), self.share), others)
        if self.batch.padding_seen and self.batch.real is not None:
            mask |= ~self.batch.real & (self.noise < self.share)
        return mask

    def _order(self, looks: Sequence[Look]) -> Tensor:
        """Numbers of which the smallest are masked: ``[B, L]``."""
        left, right, shown = (
            torch.tensor([getattr(look, name) for look in looks])[:, None]
            for name in ("left", "right", "shown")
        )
        field = self.field
        offset = torch.arange(field.shape[1]) - self.target[:, None]  # [B, L]
        free = self.noise.masked_fill(offset == 0, -1.0)
        usual = uniform_subset(free, masked_counts(field.sum(-1), self.share), field)
        kept = torch.where(usual, free - 1, free + 1)  # as it is where nothing is hidden
        order = torch.where((offset.abs() <= self.reach) & ~shown, kept, free)
        nearest = shown & ((offset == -left - 1) | (offset == right + 1))
        hidden = (offset >= -left) & (offset <= right)
        return order.masked_fill(nearest, 2.0).masked_fill(hidden, -3.0)

    @property
    def field(self) -> Tensor:
        """The scored tokens that the target may see: ``[B, L]`` bool."""
        scored, documents = self.batch.scored(), self.batch.document_ids
        if documents is None:
            return scored
        return scored & (documents == documents.gather(1, self.target[:, None]))


def masked_counts(sizes: Tensor, share: float) -> Tensor:
    """k of n tokens, at the nearest whole number: int64 of the shape of `sizes`."""
    return (sizes.double() * share).round().long()


def rooms(batch: Batch, share: float) -> Tensor:
    """How far looks at each position may reach on both sides: ``[B, L]`` int64, −1 for none.

    A look reaches r where it hides r tokens on a side, or shows the r-th. All r tokens on both
    sides are then scored and of the target's document; 2r + 1 tokens can be hidden, and beyond
    two that are shown (r >= 1) tokens can be visible as well.

    Args:
        batch: the rows.
        share: of the tokens that are masked.
    """
    scored = batch.scored()
    documents = torch.zeros_like(batch.tokens) if batch.document_ids is None else batch.document_ids
    within = torch.minimum(
        _room_before(scored, documents),
        _room_before(scored.flip(1), documents.flip(1)).flip(1),
    )
    sizes = torch.stack(
        [
            torch.bincount(ids[there] - ids.min(), minlength=int(ids.max() - ids.min()) + 1)[
                ids - ids.min()
            ]
            for ids, there in zip(documents, scored, strict=True)
        ]
    )
    count = masked_counts(sizes, share)
    room = torch.minimum(within, (count - 1).div(2, rounding_mode="floor"))
    return room.where(scored & (sizes - count >= 2), -1)


def _room_before(scored: Tensor, documents: Tensor) -> Tensor:
    """How many scored tokens of the same document are directly before each position."""
    starts = torch.ones_like(scored)
    starts[:, 1:] = (documents[:, 1:] != documents[:, :-1]) | ~scored[:, :-1]
    places = torch.arange(scored.shape[1]).expand_as(documents)
    return places - places.where(starts, 0).cummax(1).values
