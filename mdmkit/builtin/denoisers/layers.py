"""Layers that denoisers share: norms, rotary positions, time embedding, weights at the start.

A layer with weights or buffers of its own sets them in ``reset_parameters``, as torch's layers do,
so that a network made on the meta device can be sharded first and get its weights afterwards.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 256
"""Features of the sinusoidal time embedding (MDLM)."""

EPSILON = 1e-6
"""What `RMSNorm` adds to the mean square."""

ALIGNED = 64
"""On a GPU, a large vocabulary is filled up to a multiple of this."""

LARGE = 4096
"""From so many ids on: below, the filling would cost more than it saves."""


class Norm(nn.Module):
    """A weight for each feature, and no bias."""

    def __init__(self, width: int) -> None:
        """Start with weight 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        nn.init.ones_(self.weight)


class LayerNorm(Norm):
    """Layer norm with a weight, without a bias, computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]`` in the dtype of `x`."""
        return functional.layer_norm(x.float(), self.weight.shape, self.weight.float(), None).to(
            x.dtype
        )


class RMSNorm(Norm):
    """x / √(mean of x² + ε) times a weight (arXiv 1910.07467 eq. 4), computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]`` in the dtype of `x`."""
        weight = self.weight.float()
        return functional.rms_norm(x.float(), weight.shape, weight, EPSILON).to(x.dtype)


class Rotary(nn.Module):
    """Rotary positions (RoFormer, arXiv 2104.09864), halves convention, base 10,000."""

    inv_freq: Tensor

    def __init__(self, head_width: int) -> None:
        """Make the frequencies of a head of `head_width` features."""
        super().__init__()
        self.head_width = head_width
        self.register_buffer("inv_freq", torch.empty(head_width // 2), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Work the frequencies out, on the CPU, so that they are the same everywhere."""
        exponent = torch.arange(0, self.head_width, 2, device="cpu").float() / self.head_width
        self.inv_freq.copy_(1.0 / 10_000**exponent)

    def forward(
        self, length: int, positions: Tensor | None, dtype: torch.dtype = torch.float32
    ) -> Rotation:
        """What `turn` takes, for all blocks of a forward.

        Args:
            length: L.
            positions: ``[B, L]``, or None for 0..L−1.
            dtype: of what will be turned (`working_dtype`): rounded to it here, once.
        """
        if positions is None:
            positions = torch.arange(length, device=self.inv_freq.device)[None]
        angles = positions[:, None, :, None].float() * self.inv_freq  # [B, 1, L, d/2]
        cosines, sines = angles.cos(), angles.sin()
        return (
            torch.cat([cosines, cosines], dim=-1).to(dtype),
            torch.cat([-sines, sines], dim=-1).to(dtype),
        )

    @staticmethod
    def turn(x: Tensor, rotation: Rotation) -> Tensor:
        """Rotate ``[..., B, H, L, d]`` by its positions' angles."""
        cosines, sines = rotation
        first, second = x.chunk(2, dim=-1)
        return x * cosines + torch.cat([second, first], dim=-1) * sines


Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the angles, the sines negative in the first half: ``[1 or B, 1, L, d]``."""


def working_dtype(x: Tensor) -> torch.dtype:
    """What a linear layer makes of `x`: the dtype of autocast where it is on, else that of `x`."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def vocabulary_linear(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits ``[..., V]`` of features ``[..., D]``, computed with a V that suits a GPU.

    Its matrix units want rows of whole 16 bytes; with GPT-2's 50,258 ids products ran at less than
    a third of the peak (H200, bfloat16; `benchmarks/results/bench_dit_small_h200_unaligned.json`).
    """
    vocab_size = len(weight)
    spare = -vocab_size % ALIGNED
    if spare == 0 or vocab_size < LARGE or h.device.type != "cuda":
        return functional.linear(h, weight, bias)
    weight, bias = functional.pad(weight, (0, 0, 0, spare)), functional.pad(bias, (0, spare))
    return functional.linear(h, weight, bias)[..., :vocab_size]


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


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero, and draws random numbers as one that does not.

    So the weights of the layers after it do not depend on which layers start at zero.

    Attributes:
        tied: whether the weight belongs to another layer, which sets it.
    """

    tied = False

    def reset_parameters(self) -> None:
        """Zero."""
        if not self.tied:
            super().reset_parameters()
            nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def check_heads(width: int, heads: int) -> None:
    """A head's features come in pairs, which rotary positions turn.

    Raises:
        ValueError: where they do not.
    """
    if width % heads or (width // heads) % 2:
        raise ValueError(
            f"width {width} over heads {heads} must be a whole, even number of "
            "features a head (rotary positions turn pairs)"
        )


def reset_all(network: nn.Module) -> None:
    """``reset_parameters`` of every layer inside `network`, in the order of ``modules()``."""
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None and module is not network:
            reset()
