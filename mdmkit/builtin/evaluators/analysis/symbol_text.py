"""Blocks of text as a few symbols, in their order and in random ones."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.pair_information import (
    contiguous_groups,
    pair_counts,
    paired,
    symbols,
)
from mdmkit.protocols import BlockSource

_ROWS = 4096  # that are read at once


@frozen(kw_only=True, eq=False)
class SymbolText:
    """Blocks as symbols.

    Attributes:
        symbols: ``[N, L]`` int64 in [0, kinds).
        within: ``[N, L]`` int64, the document of each token in its block; −1 for padding.
        groups: ``[N]`` int64, for the jackknife.
        kinds: K.
        share: of the tokens whose type is told apart.
    """

    symbols: Tensor
    within: Tensor
    groups: Tensor
    kinds: int
    share: float

    @classmethod
    def read(
        cls, source: BlockSource, blocks: Tensor, *, types: int, units: Tensor, groups: int
    ) -> SymbolText:
        """The blocks ``[N]`` of a source; tokens of different documents make no pair.

        Args:
            source: of the text.
            blocks: their numbers in it.
            types: how many token types are told apart.
            units: ``[N]`` int64, the independent unit of each block, from 0 on.
            groups: for the jackknife, at most.
        """
        tokens, within = [], []
        for rows in torch.split(blocks, _ROWS):
            batch = source.batch(rows)
            ids = torch.zeros_like(batch.tokens)
            if batch.document_ids is not None:
                ids = batch.document_ids - batch.document_ids.amin(-1, keepdim=True)
            real = torch.ones_like(ids, dtype=torch.bool) if batch.real is None else batch.real
            tokens.append(batch.tokens)
            within.append(torch.where(real, ids, -1))
        places = torch.cat(within)
        text, kinds, share = symbols(torch.cat(tokens), places >= 0, types)
        return cls(
            symbols=text,
            within=places,
            groups=contiguous_groups(units, groups),
            kinds=kinds,
            share=share,
        )

    def counts(self, distance: int, text: Tensor) -> Tensor:
        """How often each pair of symbols is at a distance in ``text [N, L]``: ``[G, K, K]``."""
        return pair_counts(text, self.groups, self.kinds, distance, self.within)

    def independent(self, distance: int, text: Tensor, source: torch.Generator) -> Tensor:
        """`counts` with the later symbols of the pairs in random order: ``[K, K]``.

        Both symbols are as frequent among the pairs as they were; in all of the text they need not
        be, for frequencies may depend on the position.
        """
        first, second, there = paired(text, self.within, distance)
        later = second[there]
        order = torch.randperm(len(later), generator=source)
        codes = first[there] * self.kinds + later[order]
        return torch.bincount(codes, minlength=self.kinds**2).view(self.kinds, -1).double()

    def shuffled_within(self, source: torch.Generator) -> Tensor:
        """The symbols of each document of a block in random order there: ``[N, L]``."""
        noise = torch.rand(self.within.shape, generator=source, dtype=torch.float64)
        places = self.within.argsort(dim=-1, stable=True)  # document by document
        chosen = (self.within + noise).argsort(dim=-1)
        mixed = torch.empty_like(self.symbols)
        return mixed.scatter_(-1, places, self.symbols.gather(-1, chosen))
