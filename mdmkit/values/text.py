"""Token ids, who sees whom, and blocks of clean text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from mdmkit.values.mapped import mapped

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@frozen(kw_only=True)
class Vocabulary:
    """Token ids that have a meaning, and how many ids there are (the mask token included).

    Attributes:
        size: V, number of token ids; a denoiser embeds and predicts this many.
        mask_id: the id that stands for "masked"; never a target.
        bos_id, eos_id, pad_id: None where the tokenizer has no such token.
    """

    size: int
    mask_id: int
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None

    @property
    def start_id(self) -> int:
        """What stands in front of the first token for next-token prediction: BOS, EOS or mask."""
        found = (self.bos_id, self.eos_id, self.mask_id)
        return next(token for token in found if token is not None)


@frozen(kw_only=True)
class Attention:
    """Who may attend to whom. The default is: every position to every position.

    Attributes:
        causal: position i sees positions <= i only.
        document_ids: ``[B, L]`` int64; positions see only their own document.
        padding: ``[B, L]`` bool, True for real tokens; nobody sees the others.
        positions: ``[B, L]`` int64, the position fed to the positional encoding; 0..L-1 if None.
        cache: a key-value cache of the denoiser's own making, for generation.
    """

    causal: bool = False
    document_ids: Tensor | None = None
    padding: Tensor | None = None
    positions: Tensor | None = None
    cache: object | None = None

    def features(self) -> frozenset[str]:
        """Names of what is asked for, in the words of a denoiser's ``supports``."""
        asked = {
            "causal": self.causal,
            "document_ids": self.document_ids is not None,
            "padding": self.padding is not None,
            "positions": self.positions is not None,
            "cache": self.cache is not None,
        }
        return frozenset(name for name, used in asked.items() if used)

    def of_rows(self, rows: Tensor) -> Attention:
        """That of some rows, ``[N]`` int64, of a batch; a cache stays as it is."""
        parts = {
            name: part[rows]
            for name in ("document_ids", "padding", "positions")
            if (part := getattr(self, name)) is not None
        }
        return evolve(self, **parts)

    def to(self, device: torch.device) -> Attention:
        """The same on `device`."""
        return mapped(self, lambda tensor: tensor.to(device, non_blocking=True))


@frozen(kw_only=True)
class Batch:
    """Blocks of clean text, as the data room hands them out.

    Attributes:
        tokens: x0, ``[B, L]`` int64.
        real: ``[B, L]`` bool, True for tokens that count (False: padding); None means all.
        maskable: ``[B, L]`` bool, True where a token may be masked and scored; None means all
            real ones (a protocol that never masks BOS sets it).
        document_ids: ``[B, L]`` int64 or None, for attention inside documents.
        rows: ``[B]`` int64, the block numbers in the data set.
        padding_seen: whether padding is attended to, and masked at the rate of its row, like
            text; it never counts. That is MDLM's way with padded rows.
    """

    tokens: Tensor
    real: Tensor | None = None
    maskable: Tensor | None = None
    document_ids: Tensor | None = None
    rows: Tensor | None = None
    padding_seen: bool = False

    def scored(self) -> Tensor:
        """Where a token may be masked and counts towards the loss: ``[B, L]`` bool."""
        if self.maskable is not None:
            return self.maskable
        if self.real is not None:
            return self.real
        return self.tokens >= 0  # every id is, so: everywhere

    def attention(self, *, causal: bool = False) -> Attention:
        """The attention this batch asks for."""
        padding = None if self.padding_seen else self.real
        return Attention(causal=causal, document_ids=self.document_ids, padding=padding)

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return mapped(self, lambda tensor: tensor.to(device, non_blocking=True))
