"""A transformer of today's make for masked language models: no time path, no biases.

What is not MDLM's, each with where it comes from: RMSNorm before attention, MLP and head (arXiv
1910.07467), and after the embedding; queries and keys normalised before they are turned, a weight
for each feature of a head (arXiv 2302.05442 §2.1, there with layer norm), which bounds the scores,
so that no soft cap is needed; SwiGLU (arXiv 2002.05202) or ReLU² (arXiv 2109.08668) as MLP; a
vocabulary filled up to what tensor cores like. The masks show how much is masked, so the time is
not fed (arXiv 2406.03736).

Shapes: B rows, L positions, D width, H heads, F hidden width of the MLP, V vocabulary, R ≥ V rows
of the tables.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional

from mdmkit.builtin.denoisers.attention import Mask, attend, who_sees_whom
from mdmkit.builtin.denoisers.cache import KeyValueCache, Past
from mdmkit.builtin.denoisers.layers import (
    RMSNorm,
    Rotary,
    Rotation,
    check_heads,
    reset_all,
    working_dtype,
)
from mdmkit.options import option
from mdmkit.values import Attention, Vocabulary

EMBEDDING_STD = 0.02
"""Standard deviation of the embedding at the start, BERT's (arXiv 1810.04805, released code)."""


@frozen(kw_only=True)
class Transformer:
    """A transformer with RMSNorm, QK-norm and rotary positions, in any size.

    It has R·D·(1 tied, 2 untied) + depth·(4·D² + m·D·F + 2·D + 2·D/H) + 2·D parameters: R is V
    rounded up to ``vocab_multiple``, m is 3 for SwiGLU and 2 for ReLU². The defaults have 123.6
    million with V = 50258.
    """

    width: int = option(768, ge=2, doc="D, features of a position")
    depth: int = option(12, ge=1, doc="number of blocks")
    heads: int = option(12, ge=1, doc="attention heads; the width is a multiple of them")
    mlp: Literal["swiglu", "relu2"] = option(
        "swiglu", doc="SwiGLU, silu(x·W)·(x·U), or ReLU², max(x·W, 0)²; then a matrix back to D"
    )
    mlp_ratio: float = option(
        4.0, gt=0, doc="hidden width over D; of SwiGLU's two thirds, for about equal parameters"
    )
    mlp_multiple: int = option(
        64, ge=1, doc="the hidden width is rounded up to it, for the tensor cores"
    )
    vocab_multiple: int = option(
        128, ge=1, doc="rows of the tables are rounded up to it; the spare ones are never used"
    )
    tied: bool = option(True, doc="use the embedding's weights in the output layer")
    dropout: float = option(0.0, ge=0, lt=1, doc="after attention and MLP")

    supports: ClassVar[frozenset[str]] = frozenset(
        {"causal", "document_ids", "padding", "positions", "cache"}
    )
    length_multiple: ClassVar[int] = 1

    def __attrs_post_init__(self) -> None:
        """Check what one bound cannot say."""
        check_heads(self.width, self.heads)

    @property
    def hidden(self) -> int:
        """F."""
        share = 2 / 3 if self.mlp == "swiglu" else 1.0
        return round_up(self.mlp_ratio * share * self.width, self.mlp_multiple)

    def build(self, vocab: Vocabulary) -> TransformerNetwork:
        """The network, with weights from torch's global generator."""
        return TransformerNetwork(self, vocab.size)


class TransformerNetwork(nn.Module):
    """The network of `Transformer`: ``tokens [B, L] -> h [B, L, D]``, then ``unembed``."""

    def __init__(self, options: Transformer, vocab_size: int) -> None:
        """Make the layers.

        Predictions start uniform, or nearly so with tied weights: matrices into a branch keep the
        variance of what they get (σ² = 1/D, LeCun's "Efficient BackProp" §4.6), the last one of a
        branch starts at zero, and so does an untied head (Fixup, arXiv 1901.09321, its first rule).
        """
        super().__init__()
        self.vocab_size = vocab_size
        rows = round_up(vocab_size, options.vocab_multiple)
        self.embed = Table(rows, options.width, EMBEDDING_STD)
        self.embed_norm = RMSNorm(options.width)
        self.rotary = Rotary(options.width // options.heads)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.final_norm = RMSNorm(options.width)
        self.head = None if options.tied else Table(rows, options.width, 0.0)

    def init_weights(self) -> None:
        """Draw the weights again, as `Transformer.build` does: after ``to_empty``, say."""
        reset_all(self)

    def forward(
        self,
        tokens: Tensor,
        *,
        t: Tensor | None = None,  # noqa: ARG002 - every denoiser is called with it
        attention: Attention | None = None,
    ) -> Tensor:
        """Contextual features of every position, ``[B, L, D]``.

        Args:
            tokens: ``[B, L]`` int64.
            t: not looked at.
            attention: who sees whom; everybody sees everybody by default.

        Raises:
            ValueError: with a cache that does not fit.
        """
        attention = attention or Attention()
        cache = KeyValueCache.asked_for(attention, tokens)
        x = self.embed_norm(functional.embedding(tokens, self.embed.weight))
        if cache is None:
            mask = who_sees_whom(attention, tokens, self.rotary.head_width)
            rotation = self.rotary(tokens.shape[1], attention.positions, working_dtype(x))
            for block in self.blocks:
                x = block(x, rotation, mask, attention.causal)
        else:
            mask, positions = cache.mask(tokens), cache.positions(tokens)
            rotation = self.rotary(tokens.shape[1], positions, working_dtype(x))
            for block, past in zip(self.blocks, cache.blocks, strict=True):
                x = block(x, rotation, mask, False, past)
        return cast("Tensor", self.final_norm(x))

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        """An empty cache for ``Attention.cache``, with room for so many rows and positions."""
        return KeyValueCache.of(rows, length, len(self.blocks))

    def unembed(self, h: Tensor) -> Tensor:
        """Logits ``[..., V]`` of features ``[..., D]``."""
        table = self.embed if self.head is None else self.head
        return functional.linear(h, table.weight)[..., : self.vocab_size]  # of R, without the spare


class Table(nn.Module):
    """Token vectors, ``[R, D]``; the rows from V on stand for no token."""

    def __init__(self, rows: int, width: int, std: float) -> None:
        """Draw them from a normal distribution; zero with `std` 0."""
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(rows, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors."""
        nn.init.normal_(self.weight, std=self.std)


class Matrix(nn.Linear):
    """A linear layer without a bias."""

    def __init__(self, inputs: int, outputs: int, *, zero: bool = False) -> None:
        """Start with σ² = 1/inputs, or at zero."""
        self.std = 0.0 if zero else inputs**-0.5
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights."""
        nn.init.normal_(self.weight, std=self.std)


class Block(nn.Module):
    """Attention and MLP, each on normalised features and added back."""

    def __init__(self, options: Transformer) -> None:
        """Make the layers; the block starts as the identity."""
        super().__init__()
        width, hidden = options.width, options.hidden
        self.heads, self.dropout = options.heads, options.dropout
        self.gated = options.mlp == "swiglu"
        self.attn_norm = RMSNorm(width)
        self.attn_qkv = Matrix(width, 3 * width)
        self.q_norm = RMSNorm(width // options.heads)
        self.k_norm = RMSNorm(width // options.heads)
        self.attn_out = Matrix(width, width, zero=True)
        self.mlp_norm = RMSNorm(width)
        self.mlp_in = Matrix(width, 2 * hidden if self.gated else hidden)
        self.mlp_out = Matrix(hidden, width, zero=True)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Mask, causal: bool, past: Past | None = None
    ) -> Tensor:
        """``[B, L, D]`` to ``[B, L, D]``."""
        x = x + self._drop(self._attend(self.attn_norm(x), rotation, mask, causal, past))
        return x + self._drop(self._mlp(self.mlp_norm(x)))

    def _attend(
        self, x: Tensor, rotation: Rotation, mask: Mask, causal: bool, past: Past | None
    ) -> Tensor:
        rows, length, width = x.shape
        qkv = self.attn_qkv(x).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, L, D/H]
        q, k = Rotary.turn(self.q_norm(q), rotation), Rotary.turn(self.k_norm(k), rotation)
        if past is not None:
            k, v = past.extend(k, v)
        mixed = attend(q, k, v, mask=mask, causal=causal)
        return cast("Tensor", self.attn_out(mixed.transpose(1, 2).reshape(rows, length, width)))

    def _mlp(self, x: Tensor) -> Tensor:
        hidden = self.mlp_in(x)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)  # each [B, L, F]
            hidden = functional.silu(gate) * value
        else:
            hidden = functional.relu(hidden).square()
        return cast("Tensor", self.mlp_out(hidden))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


def round_up(number: float, multiple: int) -> int:
    """The first multiple that is not below `number`."""
    return -int(-number // multiple) * multiple
