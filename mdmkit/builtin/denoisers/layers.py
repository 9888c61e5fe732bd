"""Layers that denoisers share: norm, rotary positions, time embedding, attention masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdmkit.values import Attention

FREQUENCIES = 256
"""Features of the sinusoidal time embedding (MDLM)."""

SHORT = 256
"""Positions up to which attention on a CPU takes the plain formula."""


class LayerNorm(nn.Module):
    """Layer norm with a weight, without a bias, computed in float32."""

    def __init__(self, width: int) -> None:
        """Start with weight 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]`` in the dtype of `x`."""
        return functional.layer_norm(x.float(), self.weight.shape, self.weight.float(), None).to(
            x.dtype
        )


class Rotary(nn.Module):
    """Rotary positions (RoFormer, arXiv 2104.09864), halves convention, base 10,000."""

    inv_freq: Tensor

    def __init__(self, head_width: int) -> None:
        """Make the frequencies of a head of `head_width` features."""
        super().__init__()
        exponent = torch.arange(0, head_width, 2).float() / head_width
        self.register_buffer("inv_freq", 1.0 / 10_000**exponent, persistent=False)

    def forward(self, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles, each ``[1 or B, 1, L, D/H]``.

        Args:
            length: L.
            positions: ``[B, L]``, or None for 0..L−1.
        """
        if positions is None:
            positions = torch.arange(length, device=self.inv_freq.device)[None]
        angles = positions[:, None, :, None].float() * self.inv_freq  # [B, 1, L, D/H/2]
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()

    @staticmethod
    def turn(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate ``[B, H, L, D/H]`` by its positions' angles, in the dtype of `x`."""
        cosines, sines = (part.to(x.dtype) for part in rotation)
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return x * cosines + turned * sines


class TimeEmbedding(nn.Module):
    """sigma ``[B]`` to ``[B, C]``: sinusoids through a two-layer MLP (DiT)."""

    def __init__(self, width: int) -> None:
        """Make the MLP."""
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, sigma: Tensor) -> Tensor:
        """Embed the noise level."""
        half = FREQUENCIES // 2
        exponent = torch.arange(half, device=sigma.device).float() / half
        angles = sigma[:, None].float() * torch.exp(-math.log(10_000) * exponent)
        embedded: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return embedded


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention: softmax(q·kᵀ/√d)·v over the last two dimensions.

    Torch's fused op, but for short sequences on a CPU, where the plain formula is two to three
    times as fast in bfloat16, forward and backward (``benchmarks/cpu_attention.py``: 13 ms against
    43 ms for B = 32, H = 4, L = 128, d = 32 on one thread; torch 2.13).

    Args:
        q, k, v: ``[B, H, L, d]``.
        mask: ``[B, 1, L, L]`` bool, True where attention is allowed, or None.
        causal: whether position i sees positions <= i only; with a mask, the mask says so.
    """
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


def attention_mask(attention: Attention, length: int) -> Tensor | None:
    """Who may see whom as a mask for SDPA, ``[B, 1, L, L]`` bool, True where allowed.

    None where nobody is hidden, or causality alone hides (SDPA has a faster way for that). A
    padding position sees itself, so that no softmax is empty.
    """
    allowed = None
    if attention.document_ids is not None:
        ids = attention.document_ids
        allowed = ids[:, None, :, None] == ids[:, None, None, :]
    if attention.padding is not None:
        real = attention.padding[:, None, None, :]
        itself = torch.eye(length, dtype=torch.bool, device=real.device)
        seen = real | itself
        allowed = seen if allowed is None else allowed & seen
    if attention.causal and allowed is not None:
        allowed = allowed & torch.ones_like(allowed[:1]).tril()
    return allowed
