"""Attention: who sees whom, and which of torch's ways computes it.

============================  ======  =========================================================
hidden from each other        device  taken
============================  ======  =========================================================
nobody, or the future alone   CUDA    SDPA without a mask: flash or cuDNN, as torch chooses
documents, padding            CUDA    flex attention with a block mask, from 512 positions on
documents, padding            any     SDPA with a dense mask
anything                      CPU     the plain formula up to 256 positions
============================  ======  =========================================================

A mask is made once a forward (`who_sees_whom`), for all blocks, and without asking the device for
a value, so that nothing waits for it.

Shapes: B rows, H heads, L positions, d features of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from mdmkit.values import Attention
from mdmkit.visibility import dense_mask, visible_groups

Mask = Tensor | BlockMask | None
"""``[B, 1, L, L]`` bool, True where attention is allowed; or blocks of it; None: no mask."""

SHORT = 256
"""Positions up to which attention on a CPU takes the plain formula."""

FLEX_LENGTH = 512
"""Positions from which a mask on CUDA is one of blocks. A block is 128 wide: with less than four
there is little to skip, while rows of changing lengths, as evaluators have them, would compile."""

FLEX_WIDTH = 16
"""The narrowest head that flex attention takes (torch 2.13)."""


def who_sees_whom(attention: Attention, tokens: Tensor, head_width: int) -> Mask:
    """The mask for all blocks of one forward.

    None where nobody is hidden, or causality alone hides, for which `attend` has faster ways.

    Args:
        attention: what is asked for.
        tokens: ``[B, L]``, what the network was given.
        head_width: d.
    """
    groups = visible_groups(attention, tokens.shape[1])
    if groups is None:
        return None
    long = tokens.shape[1] >= FLEX_LENGTH and head_width >= FLEX_WIDTH
    if tokens.device.type == "cuda" and long:
        return block_mask(groups, causal=attention.causal)
    return dense_mask(groups, causal=attention.causal)


def block_mask(groups: Tensor, *, causal: bool) -> BlockMask:
    """The same for flex attention: which blocks of 128 × 128 are empty, partly full, and full."""

    def together(b: Tensor, _: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return groups[b, q] == groups[b, k]

    def and_before(b: Tensor, _: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (groups[b, q] == groups[b, k]) & (q >= k)

    rows, length = groups.shape
    rule = and_before if causal else together
    return create_block_mask(rule, rows, None, length, length, device=groups.device)


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Mask, causal: bool) -> Tensor:
    """Scaled dot-product attention: softmax(q·kᵀ/√d)·v over the last two dimensions.

    For short sequences on a CPU the plain formula is two to three times as fast in bfloat16 as
    torch's fused op, forward and backward (``benchmarks/cpu_attention.py``: 13 ms against 43 ms
    for B = 32, H = 4, L = 128, d = 32 on one thread; torch 2.13).

    Args:
        q, k, v: ``[B, H, L, d]``.
        mask: of `who_sees_whom`.
        causal: whether position i sees positions <= i only; with a mask, the mask says so.
    """
    if isinstance(mask, BlockMask):
        return _flex(q, k, v, mask)
    if q.device.type != "cpu" or q.shape[-2] > SHORT:
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and mask is None
        )
    if causal and mask is None:
        mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).tril()
    with torch.autocast("cpu", enabled=False):  # the softmax stays in the dtype of its input
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # [B, H, L, L]
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        mixed: Tensor = scores.softmax(-1) @ v
    return mixed


def _flex(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    if torch.compiler.is_compiling():  # the block is compiled, and the op a part of its graph
        return flex_attention(q, k, v, block_mask=mask)
    return _compiled_flex()(q, k, v, block_mask=mask)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    """Flex attention is a kernel only when compiled; uncompiled it makes all scores."""
    return cast("Callable[..., Tensor]", torch.compile(flex_attention))
