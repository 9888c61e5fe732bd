"""Masks with a given surrounding of one token, and as many masked tokens whatever it is.

A row has one target. Its field are the scored tokens of its document (of its row, where documents
see each other); k of the n tokens of a field are masked, the target among them. Given which tokens
next to the target are hidden or shown, the others are a uniform subset of what is left.
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
        left, right: so many tokens next to it are hidden on that side.
        shown: whether the first beyond these is visible on both sides; the hidden ones and the
            target are then just what the nearest visible tokens at left + 1 and right + 1 imply.
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
    """

    batch: Batch
    target: Tensor
    noise: Tensor
    share: float

    def masks(self, looks: Sequence[Look]) -> Tensor:
        """What is masked: ``[B, L]`` bool.

        Args:
            looks: one a row; see `rooms` for how far they may reach.
        """
        left, right, shown, blind = (
            torch.tensor([getattr(look, name) for look in looks])[:, None]
            for name in ("left", "right", "shown", "blind")
        )
        scored, field = self.batch.scored(), self.field
        offset = torch.arange(scored.shape[1]) - self.target[:, None]  # [B, L]
        hidden = (offset >= -left) & (offset <= right)
        nearest = shown & ((offset == -left - 1) | (offset == right + 1))
        # chosen are the smallest: the hidden ones first, those that must be visible last
        order = self.noise.masked_fill(hidden, -1.0).masked_fill(nearest, 2.0)
        count = masked_counts(field.sum(-1), self.share)
        mask = uniform_subset(order, count, field) | (blind & field)
        others = scored & ~field
        mask |= uniform_subset(self.noise, masked_counts(others.sum(-1), self.share), others)
        if self.batch.padding_seen and self.batch.real is not None:
            mask |= ~self.batch.real & (self.noise < self.share)
        return mask

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
