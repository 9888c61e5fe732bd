"""What travels between components: the small frozen values that the contracts speak of.

Shapes: B rows (sequences), L positions, V vocabulary, D width. ``t`` is 0 for clean text and 1
for fully masked text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from attrs import evolve, fields, frozen

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
        return evolve(
            self,
            document_ids=_to(self.document_ids, device),
            padding=_to(self.padding, device),
            positions=_to(self.positions, device),
        )


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
        return evolve(
            self,
            tokens=self.tokens.to(device),
            real=_to(self.real, device),
            maskable=_to(self.maskable, device),
            document_ids=_to(self.document_ids, device),
            rows=_to(self.rows, device),
        )


@frozen(kw_only=True)
class Noised:
    """One micro-batch made ready for the network by an objective.

    Attributes:
        inputs: ``[B, L]`` int64, what the denoiser sees.
        targets: ``[B, L]`` int64, what it should say at each position.
        in_loss: ``[B, L]`` bool, the positions whose cross-entropy counts. Logits are computed
            at these positions only.
        weights: ``[B, L]`` float32, the weight of each counted cross-entropy (elsewhere ignored).
        t: ``[B]`` float32 for a denoiser that is conditioned on it, or None.
        attention: who sees whom.
        denominator: float64 scalar, this micro-batch's share of the normaliser. The loop sums
            the shares over micro-batches and ranks and divides the loss by the sum.
    """

    inputs: Tensor
    targets: Tensor
    in_loss: Tensor
    weights: Tensor
    t: Tensor | None
    attention: Attention
    denominator: Tensor

    def to(self, device: torch.device) -> Noised:
        """The same on `device`; the denominator stays where it is."""
        return evolve(
            self,
            inputs=self.inputs.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            in_loss=self.in_loss.to(device, non_blocking=True),
            weights=self.weights.to(device, non_blocking=True),
            t=_to(self.t, device),
            attention=self.attention.to(device),
        )

    def pinned(self) -> Noised:
        """The same in page-locked memory, from which a GPU copies while the CPU goes on."""
        return cast("Noised", _pinned(self))


@frozen(kw_only=True)
class MixedNoised(Noised):
    """A micro-batch of which some rows are trained on the next token, the others on masks.

    A denoiser knows one kind of attention a call, so the objective calls it once for each kind:
    ``attention`` is that of the masked rows, and the causal rows have the same but causal, with
    the text shifted right in ``inputs`` and t = 0. Both calls are made wherever ``both`` is set,
    with a row that costs nothing where a micro-batch has none of a kind, because under FSDP all
    ranks must make the same calls.

    Attributes:
        causal: ``[B]`` bool, the rows of next-token prediction.
        both: whether there are rows of both kinds at this step, in any micro-batch.
    """

    causal: Tensor
    both: bool

    def to(self, device: torch.device) -> MixedNoised:
        """The same on `device`; the denominator stays where it is."""
        moved = cast("MixedNoised", super().to(device))
        return evolve(moved, causal=self.causal.to(device, non_blocking=True))


class Loss(NamedTuple):
    """What an objective's loss returns: a tuple of tensors, so that FSDP sees every one of them.

    Attributes:
        total: scalar float32 with gradient, the weighted *sum* of cross-entropies in nats; the
            loop divides it by the global denominator.
        nll: ``[B]`` float32, detached: each row's unweighted sum of cross-entropies in nats. The
            time samplers that adapt learn from it, so a causal row of `MixedNoised`, which has no
            time, has 0.
        tokens: ``[B]`` int64: how many positions that sum has; 0 for such a row.
    """

    total: Tensor
    nll: Tensor
    tokens: Tensor


class Bound(NamedTuple):
    """An estimate of −log p of each row.

    Attributes:
        nats: ``[B]`` float64, one unbiased draw of the NELBO of each row (or its exact NLL).
        tokens: ``[B]`` int64, how many tokens of the row that covers.
        masked: ``[B]`` int64, how many of them were masked for this draw; None where the estimate
            is not made of one mask a row.
    """

    nats: Tensor
    tokens: Tensor
    masked: Tensor | None = None


@frozen(kw_only=True, eq=False)
class BlockTable:
    """What each of the n draws of each of N blocks gave.

    Attributes:
        blocks: ``[N]`` int64, the numbers of the blocks in their split.
        documents: ``[N]`` int64, the document that each block begins in (the block itself where
            the source does not tell).
        nats: ``[N, n]`` float64, one unbiased estimate of the NELBO of the block each.
        tokens: ``[N, n]`` float64, the scored tokens of the block.
        masked: ``[N, n]`` float64, how many of them were masked; 0 for an exact NLL.
    """

    blocks: Tensor
    documents: Tensor
    nats: Tensor
    tokens: Tensor
    masked: Tensor


@frozen(kw_only=True)
class Measurement:
    """A number and its error.

    Attributes:
        value: the estimate.
        stderr: its standard error, in the same unit; 0.0 only for what is known exactly.
        unit: such as ``nats/token``, ``bits/token``, or empty for a pure number.
        draws_stderr: the part of it that is due to random draws on this very data, and that more
            draws would remove; 0.0 or None where nothing is drawn, None where it is not known.
    """

    value: float
    stderr: float
    unit: str = ""
    draws_stderr: float | None = None


@frozen(kw_only=True)
class Generation:
    """A state of a sampler on its way from masks to text.

    Attributes:
        tokens: ``[B, L]`` int64; positions not yet decided hold the mask id.
        step: number of steps done.
        network_evaluations: how many times the network was called so far.
    """

    tokens: Tensor
    step: int
    network_evaluations: int


Metrics = Mapping[str, float | int]
"""One line of metrics: ``step``, ``tokens``, ``seconds`` and named figures."""


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device, non_blocking=True)


def _pinned(value: Any) -> Any:
    """`value` with every tensor in it, and in the attention it holds, in page-locked memory."""
    parts: dict[str, Any] = {}
    for field in fields(type(value)):
        part = getattr(value, field.name)
        if hasattr(part, "pin_memory"):
            parts[field.name] = part.pin_memory()
        elif isinstance(part, Attention):
            parts[field.name] = _pinned(part)
    return evolve(value, **parts)
