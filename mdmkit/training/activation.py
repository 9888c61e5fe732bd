"""Activation checkpointing: what a block's forward keeps for its backward, and what it repeats.

A block's ``forward`` is replaced on the block itself, so the names of parameters stay. What is
worked out again starts from the same generators, so dropout drops the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

_aten = torch.ops.aten

KEPT = frozenset(
    getattr(_aten, name).default
    for name in (
        "mm",
        "addmm",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
) | {torch.ops.higher_order.flex_attention}
"""What ``selective`` keeps: the outputs of linear layers and of fused attention, where nearly all
the arithmetic of a block is. A batched product is not in it: in a block that is attention written
out, whose scores grow with the square of the length."""


def checkpoint_block(block: nn.Module, kind: str) -> None:
    """Have `block` keep less of its forward, in place.

    Args:
        block: one of a denoiser's ``blocks``.
        kind: ``none``; ``full`` keeps the block's inputs alone and repeats the whole forward;
            ``selective`` also keeps what is in `KEPT`.
    """
    if kind == "none":
        return
    forward: Callable[..., Any] = block.forward
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    repeated = partial(checkpoint, forward, use_reentrant=False)
    if kind == "selective":
        repeated = partial(repeated, context_fn=contexts)

    @wraps(forward)
    def sparing(*args: Any, **kwargs: Any) -> Any:
        return (repeated if torch.is_grad_enabled() else forward)(*args, **kwargs)

    block.forward = sparing


def _policy(_: Any, operation: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    kept = operation in KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


__all__ = ["KEPT", "checkpoint_block"]
