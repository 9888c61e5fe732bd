"""Who sees whom, as the four-dimensional masks that ``transformers`` takes.

Shapes: B rows, L positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdmkit.visibility import dense_mask

FULL, SLIDING = "full_attention", "sliding_attention"
"""The kinds of layers that are understood, in the words of a config's ``layer_types``."""


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
        groups: of `mdmkit.visibility.visible_groups`.
        length: L.
        causal: whether position i sees positions <= i only.
        window: how far a layer looks, or None: positions j with abs(i − j) <= window, and with
            i − j < window where it is causal, as ``transformers`` counts
            (``transformers.masking_utils``, bidirectional and causal sliding windows).
        device: of the tokens.
    """
    if groups is None and window is None:
        return None
    together = torch.zeros(1, length, dtype=torch.int64, device=device)
    allowed = dense_mask(together if groups is None else groups, causal=causal)
    if window is not None:
        place = torch.arange(length, device=device)
        distance = (place[:, None] - place).abs()
        allowed = allowed & (distance < window if causal else distance <= window)
    return allowed


def read_one_before(h: Tensor, groups: Tensor | None) -> Tensor:
    """Features ``[B, L, D]`` such that position i has those of position i − 1.

    A position that has none before it, the first one and the first of a document, keeps its own.

    Args:
        h: features of every position.
        groups: of `mdmkit.visibility.visible_groups`.
    """
    before = torch.cat([h[:, :1], h[:, :-1]], dim=1)
    if groups is None:
        return before
    together = torch.zeros_like(groups, dtype=torch.bool)
    together[:, 1:] = groups[:, 1:] == groups[:, :-1]
    return torch.where(together[..., None], before, h)
