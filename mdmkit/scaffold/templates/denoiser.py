"""A denoiser for mdmkit: a convolutional network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from attrs import frozen
from torch import Tensor, nn

from mdmkit import hookimpl, option
from mdmkit.protocols import DenoiserOptions
from mdmkit.values import Attention, Vocabulary

MDMKIT_API = 1


@frozen(kw_only=True)
class Example:
    """Each block looks at the neighbours on both sides: depth·reach tokens either way in all."""

    width: int = option(128, ge=1, doc="D, features of a position")
    depth: int = option(4, ge=1, doc="number of blocks")
    reach: int = option(8, ge=1, doc="neighbours on either side that a block looks at")
    supports: ClassVar[frozenset[str]] = frozenset()  # no causal attention, documents, padding, t
    length_multiple: ClassVar[int] = 1

    def build(self, vocab: Vocabulary) -> ExampleNetwork:
        """The network, with weights from torch's global generator."""
        return ExampleNetwork(self, vocab.size)


class ExampleNetwork(nn.Module):
    """The network of `Example`."""

    def __init__(self, options: Example, vocab_size: int) -> None:
        """Make the layers."""
        super().__init__()
        width, reach = options.width, options.reach
        self.embed = nn.Embedding(vocab_size, width)
        blocks = [
            nn.Sequential(nn.Conv1d(width, width, 2 * reach + 1, padding="same"), nn.GELU())
            for _ in range(options.depth)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size)

    def forward(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention | None = None
    ) -> Tensor:
        """``tokens [B, L]`` int64 to ``h [B, L, D]``; `t` and `attention` are not looked at."""
        x = self.embed(tokens).transpose(1, 2)  # [B, D, L]
        for block in self.blocks:
            x = x + block(x)
        h: Tensor = self.norm(x.transpose(1, 2))
        return h

    def unembed(self, h: Tensor) -> Tensor:
        """``h [..., D]`` to logits ``[..., V]``."""
        logits: Tensor = self.head(h)
        return logits


@hookimpl
def mdmkit_denoisers() -> Mapping[str, type[DenoiserOptions]]:
    """What this plugin adds: the name that ``use`` says, and its class."""
    return {"example": Example}


def contract_examples(directory: Path) -> Iterator[Example]:
    """What the contract checks try: a small one, for it is called some dozens of times."""
    yield Example(width=8, depth=2, reach=2)
