"""The diffusion transformer of MDLM: rotary positions, adaLN conditioning, SDPA.

Architecture of arXiv 2406.07524 (after DiT, arXiv 2212.09748): with ``adaln`` the parameters are
those of MDLM's network, name by name and shape by shape, so that its weights fit. "No time
conditioning" there means that sigma = 0 is fed; the conditioning path stays and is learned.

Shapes: B rows, L positions, D width, H heads, C conditioning width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional

from mdmkit.builtin.denoisers.attention import Mask, attend, who_sees_whom
from mdmkit.builtin.denoisers.cache import KeyValueCache, Past
from mdmkit.builtin.denoisers.layers import (
    LayerNorm,
    Rotary,
    Rotation,
    TimeEmbedding,
    ZeroLinear,
    check_heads,
    reset_all,
    vocabulary_linear,
    working_dtype,
)
from mdmkit.options import option
from mdmkit.values import Attention, Vocabulary


@frozen(kw_only=True)
class Dit:
    """MDLM's DiT in any size.

    The defaults are DiT-small; with V = 50258 it has 169,627,218 parameters, as MDLM's.
    """

    width: int = option(768, ge=2, doc="D, features of a position")
    depth: int = option(12, ge=1, doc="number of blocks")
    heads: int = option(12, ge=1, doc="attention heads; the width is a multiple of them")
    mlp_ratio: int = option(4, ge=1, doc="hidden width of the MLP over D")
    adaln: bool = option(True, doc="scale, shift and gate each block by a learned conditioning")
    conditioning_width: int = option(128, ge=1, doc="C, features of the conditioning")
    time_conditioning: bool = option(False, doc="condition on sigma_t instead of on 0")
    sigma_eps: float = option(1e-3, gt=0, lt=1, doc="sigma_t = −log(1 − (1 − ε)t), MDLM's ε")
    tied: bool = option(False, doc="use the embedding's weights in the output layer")
    dropout: float = option(0.0, ge=0, lt=1, doc="after attention and MLP")

    length_multiple: ClassVar[int] = 1

    def __attrs_post_init__(self) -> None:
        """Check what one bound cannot say."""
        check_heads(self.width, self.heads)
        if self.time_conditioning and not self.adaln:
            raise ValueError("time_conditioning = true needs adaln = true")

    @property
    def supports(self) -> frozenset[str]:
        """What it understands; ``t`` only with time conditioning."""
        known = {"causal", "document_ids", "padding", "positions", "cache"}
        return frozenset(known | {"t"} if self.time_conditioning else known)

    def build(self, vocab: Vocabulary) -> DitNetwork:
        """The network, with weights from torch's global generator."""
        return DitNetwork(self, vocab.size)


class DitNetwork(nn.Module):
    """The network of `Dit`: ``tokens [B, L] -> h [B, L, D]``, then ``unembed`` to ``[..., V]``."""

    def __init__(self, options: Dit, vocab_size: int) -> None:
        """Make the layers; the output layer starts at zero, so predictions start uniform."""
        super().__init__()
        self.options = options
        self.vocab_embed = Embedding(vocab_size, options.width)
        self.sigma_map = TimeEmbedding(options.conditioning_width) if options.adaln else None
        self.rotary_emb = Rotary(options.width // options.heads)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.output_layer = OutputLayer(options, vocab_size)
        self._tie()

    def init_weights(self) -> None:
        """Draw the weights again, as `Dit.build` does: after ``to_empty``, sharded or not."""
        self._tie()
        reset_all(self)

    def forward(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention | None = None
    ) -> Tensor:
        """Contextual features of every position, ``[B, L, D]``.

        Args:
            tokens: ``[B, L]`` int64.
            t: ``[B]``, used with time conditioning only, where it is required.
            attention: who sees whom; everybody sees everybody by default.

        Raises:
            ValueError: without `t` where it is required, or with a cache that does not fit.
        """
        attention = attention or Attention()
        cache = KeyValueCache.asked_for(attention, tokens)
        x = self.vocab_embed(tokens)
        conditioning = self._conditioning(tokens, t)
        if cache is None:
            mask = who_sees_whom(attention, tokens, self.rotary_emb.head_width)
            rotation = self.rotary_emb(tokens.shape[1], attention.positions, working_dtype(x))
            for block in self.blocks:
                x = block(x, rotation, conditioning, mask, attention.causal)
        else:
            mask, positions = cache.mask(tokens), cache.positions(tokens)
            rotation = self.rotary_emb(tokens.shape[1], positions, working_dtype(x))
            for block, past in zip(self.blocks, cache.blocks, strict=True):
                x = block(x, rotation, conditioning, mask, False, past)
        return self.output_layer.features(x, conditioning)

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        """An empty cache for ``Attention.cache``, with room for so many rows and positions."""
        return KeyValueCache.of(rows, length, len(self.blocks))

    def unembed(self, h: Tensor) -> Tensor:
        """Logits ``[..., V]`` of features ``[..., D]``."""
        linear = self.output_layer.linear
        return vocabulary_linear(h, linear.weight, linear.bias)

    def _tie(self) -> None:
        """One weight for both ends, if so asked; ``to_empty`` would have made two of it."""
        if self.options.tied:
            self.output_layer.linear.weight = self.vocab_embed.embedding
            self.output_layer.linear.tied = True

    def _conditioning(self, tokens: Tensor, t: Tensor | None) -> Tensor | None:
        """``[B, C]``, or ``[1, C]`` where it is the same for all rows; None without adaLN."""
        if self.sigma_map is None:
            return None
        if not self.options.time_conditioning:
            sigma = torch.zeros(1, device=tokens.device)
        elif t is None:
            raise ValueError("a time-conditioned denoiser needs t")
        else:
            sigma = -torch.log1p(-(1 - self.options.sigma_eps) * t.float())
        return functional.silu(self.sigma_map(sigma))


class Embedding(nn.Module):
    """The table of token vectors ``[V, D]``."""

    def __init__(self, vocab_size: int, width: int) -> None:
        """Make the table."""
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors as a linear layer's weights (Kaiming uniform, a = √5)."""
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, L]`` to ``[B, L, D]``."""
        return functional.embedding(tokens, self.embedding)


class Block(nn.Module):
    """Attention and MLP, each on normalised features and added back through a gate."""

    def __init__(self, options: Dit) -> None:
        """Make the layers; with adaLN the gates start at zero, so the block starts as identity."""
        super().__init__()
        width = options.width
        self.heads, self.dropout = options.heads, options.dropout
        self.norm1 = LayerNorm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, options.mlp_ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(options.mlp_ratio * width, width),
        )
        self.adaLN_modulation = (
            ZeroLinear(options.conditioning_width, 6 * width) if options.adaln else None
        )

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        conditioning: Tensor | None,
        mask: Mask,
        causal: bool,
        past: Past | None = None,
    ) -> Tensor:
        """``[B, L, D]`` to ``[B, L, D]``; ``conditioning [1 or B, C]``."""
        one, two = self._modulation(conditioning)
        x = x + self._drop(
            gate(self._attend(modulate(self.norm1(x), one), rotation, mask, causal, past), one)
        )
        return x + self._drop(gate(self.mlp(modulate(self.norm2(x), two)), two))

    def _attend(
        self, x: Tensor, rotation: Rotation, mask: Mask, causal: bool, past: Past | None
    ) -> Tensor:
        rows, length, width = x.shape
        qkv = self.attn_qkv(x).view(rows, length, 3, self.heads, width // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # [3, B, H, L, D/H]
        (q, k), v = Rotary.turn(qkv[:2], rotation), qkv[2]
        if past is not None:
            k, v = past.extend(k, v)
        mixed = attend(q, k, v, mask=mask, causal=causal)
        return cast("Tensor", self.attn_out(mixed.transpose(1, 2).reshape(rows, length, width)))

    def _modulation(self, conditioning: Tensor | None) -> tuple[Triple | None, Triple | None]:
        if self.adaLN_modulation is None or conditioning is None:
            return None, None
        parts = self.adaLN_modulation(conditioning)[:, None].chunk(6, dim=-1)  # each [1 or B, 1, D]
        return cast("Triple", parts[:3]), cast("Triple", parts[3:])

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class OutputLayer(nn.Module):
    """The last norm and the projection to the vocabulary."""

    def __init__(self, options: Dit, vocab_size: int) -> None:
        """Make both; the projection starts at zero."""
        super().__init__()
        self.norm_final = LayerNorm(options.width)
        self.linear = ZeroLinear(options.width, vocab_size)
        self.adaLN_modulation = (
            ZeroLinear(options.conditioning_width, 2 * options.width) if options.adaln else None
        )

    def features(self, x: Tensor, conditioning: Tensor | None) -> Tensor:
        """``[B, L, D]`` normalised and modulated: what `linear` takes."""
        x = cast("Tensor", self.norm_final(x))
        if self.adaLN_modulation is None or conditioning is None:
            return x
        modulation: Tensor = self.adaLN_modulation(conditioning)[:, None]  # [1 or B, 1, 2D]
        shift, scale = modulation.chunk(2, dim=-1)
        return x * (1 + scale) + shift


Triple = tuple[Tensor, Tensor, Tensor]
"""Shift, scale and gate of one half of a block, each ``[1 or B, 1, D]``."""


def modulate(x: Tensor, triple: Triple | None) -> Tensor:
    """Scale and shift normalised features (DiT, arXiv 2212.09748 §3.2)."""
    return x if triple is None else x * (1 + triple[1]) + triple[0]


def gate(x: Tensor, triple: Triple | None) -> Tensor:
    """Scale what a branch adds."""
    return x if triple is None else triple[2] * x
