"""Who sees whom, as the four-dimensional masks that ``transformers`` takes.

Shapes: B rows, L positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdmkit.values import Attention

FULL, SLIDING = "full_attention", "sliding_attention"
"""The kinds of layers that are understood, in the words of a config's ``layer_types``."""


def visible_groups(attention: Attention, length: int) -> Tensor | None:
    """``[B, L]`` int64: positions see each other where the numbers are equal; None: everywhere.

    A group is a document; a padding position is one by itself, so that no softmax is empty.
    """
    ids, real = attention.document_ids, attention.padding
    if real is None:
        return ids
    alone = -1 - torch.arange(length, device=real.device)
    documents = 0 if ids is None else ids - ids.amin(dim=1, keepdim=True)  # from 0 on
    return torch.where(real, documents, alone)


def layer_mask(
    groups: Tensor | None,
    length: int,
    *,
    causal: bool,
    window: int | None,
    device: torch.device,
) -> Tensor | None:
    """The mask of one kind of layer: ``[B or 1, 1, L, L]`` bool, True where attention is allowed.

    None where nobody is hidden, or causality alone hides: attention is faster without a mask, and
    is told apart whether it is causal.

    Args:
        groups: of `visible_groups`.
        length: L.
        causal: whether position i sees positions <= i only.
        window: how far a layer looks, or None: positions j with abs(i − j) <= window, and with
            i − j < window where it is causal, as ``transformers`` counts
            (``transformers.masking_utils``, bidirectional and causal sliding windows).
        device: of the tokens.
    """
    if groups is None and window is None:
        return None
    allowed = torch.ones(1, length, length, dtype=torch.bool, device=device)
    if groups is not None:
        allowed = groups[:, :, None] == groups[:, None, :]
    if causal:
        allowed = allowed.tril()
    if window is not None:
        place = torch.arange(length, device=device)
        distance = (place[:, None] - place).abs()
        allowed = allowed & (distance < window if causal else distance <= window)
    return allowed[:, None]


def read_one_before(h: Tensor, groups: Tensor | None) -> Tensor:
    """Features ``[B, L, D]`` such that position i has those of position i − 1.

    A position that has none before it, the first one and the first of a document, keeps its own.

    Args:
        h: features of every position.
        groups: of `visible_groups`.
    """
    before = torch.cat([h[:, :1], h[:, :-1]], dim=1)
    if groups is None:
        return before
    together = torch.zeros_like(groups, dtype=torch.bool)
    together[:, 1:] = groups[:, 1:] == groups[:, :-1]
    return torch.where(together[..., None], before, h)
