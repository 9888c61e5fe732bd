"""What is measured, generated and logged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor


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
        log_p: ``[B, L]`` float64, for each generated token the log-probability, in nats, that the
            network gave it when it was drawn (at temperature 1, nothing cut off); 0 at all other
            positions. None where the sampler does not tell.
    """

    tokens: Tensor
    step: int
    network_evaluations: int
    log_p: Tensor | None = None

    @classmethod
    def last_of(cls, states: Iterable[Self]) -> Self:
        """The last of the states; the others are let go at once."""
        (state,) = deque(states, maxlen=1)
        return state


Metrics = Mapping[str, float | int]
"""One line of metrics: ``step``, ``tokens``, ``seconds`` and named figures."""
