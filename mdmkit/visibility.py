"""Who sees whom: what a denoiser makes of an `mdmkit.values.Attention`.

Pure functions on tensors, made without asking the device for a value. Shapes: B rows, L positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdmkit.values import Attention


def visible_groups(attention: Attention, length: int) -> Tensor | None:
    """``[B, L]`` int64: positions see each other where the numbers are equal; None: everywhere.

    A group is a document; a padding position is one by itself, so that no softmax is empty.

    Args:
        attention: what is asked for.
        length: L.
    """
    ids, real = attention.document_ids, attention.padding
    if real is None:
        return ids
    alone = -1 - torch.arange(length, device=real.device)
    documents = 0 if ids is None else ids - ids.amin(dim=1, keepdim=True)  # from 0 on
    return torch.where(real, documents, alone)


def dense_mask(groups: Tensor, *, causal: bool) -> Tensor:
    """``[B, 1, L, L]`` bool, True where attention is allowed, of ``groups [B, L]``.

    It is what ``torch.nn.functional.scaled_dot_product_attention`` takes as ``attn_mask``.
    """
    allowed = groups[:, None, :, None] == groups[:, None, None, :]
    return allowed & torch.ones_like(allowed[:1]).tril() if causal else allowed
