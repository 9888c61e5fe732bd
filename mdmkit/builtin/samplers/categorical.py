"""Categorical draws in float64.

32-bit Gumbel noise lowers the effective temperature (arXiv 2409.02908, §4): its largest values
are cut off. Here one uniform number is looked up in the cumulative distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdmkit.diffusion import masked_logits

CHUNK = 2**24
"""Logits that are turned to float64 at once: 128 MiB a copy."""


def draw_tokens(logits: Tensor, u: Tensor, mask_id: int, temperature: float) -> Tensor:
    """One token per row from softmax(logits/temperature), the mask excluded.

    Args:
        logits: ``[N, V]``.
        u: ``[N]`` float64 on [0, 1).
        mask_id: the id that is never drawn.
        temperature: > 0; 1 is the network's own distribution.

    Returns:
        ``[N]`` int64 ids of positive probability.
    """
    rows = max(1, CHUNK // logits.shape[-1])
    parts = [
        _draw(part, v, mask_id, temperature)
        for part, v in zip(torch.split(logits, rows), torch.split(u, rows), strict=True)
    ]
    return torch.cat(parts)


def _draw(logits: Tensor, u: Tensor, mask_id: int, temperature: float) -> Tensor:
    log_p = masked_logits(logits.double(), mask_id).div(temperature).log_softmax(-1)
    cumulative = log_p.exp().cumsum(-1)
    total = cumulative[:, -1:]
    # strictly below the total, so that no id behind the last likely one can be hit
    wanted = torch.minimum(u[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
