"""What is said of a text's likelihood: per token, per byte, as a perplexity, with errors."""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.errors import DataError, MdmkitError
from mdmkit.protocols import BlockSource, Split
from mdmkit.values import Measurement

_LARGEST = math.log(sys.float_info.max)

FEW_DOCUMENTS = 10
"""With fewer documents blocks are taken as the sample: so few make no standard error."""


@frozen(kw_only=True, eq=False)
class Sample:
    """The independent units that a text is a sample of.

    Attributes:
        kind: ``documents`` or ``blocks``.
        unit: ``[N]`` int64, the number of each block's unit, from 0.
        count: how many there are.
    """

    kind: str
    unit: Tensor
    count: int

    @classmethod
    def of(cls, documents: Tensor) -> Sample:
        """Documents where there are enough of them.

        Args:
            documents: ``[N]`` int64, which one each block begins in.
        """
        known, unit = np.unique(documents.numpy(), return_inverse=True)
        if len(known) >= FEW_DOCUMENTS:
            return cls(kind="documents", unit=torch.from_numpy(unit), count=len(known))
        return cls(kind="blocks", unit=torch.arange(len(documents)), count=len(documents))

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the blocks of each unit: ``[N] -> [U]``."""
        return values.new_zeros(self.count).index_add_(0, self.unit, values)


def ratio_of_sums(nats: Tensor, size: Tensor) -> tuple[float, float]:
    """Σ nats / Σ size with its standard error, units being independent.

    The error is that of a ratio estimator: from the residuals nats_u − r·size_u. A bootstrap over
    the units agrees with it where there are many.

    Args:
        nats, size: ``[U]`` float64 with U >= 2.
    """
    ratio = nats.sum() / size.sum()
    residuals = nats - ratio * size
    count = len(nats)
    error = (residuals.square().sum() * count / (count - 1)).sqrt() / size.sum()
    return float(ratio), float(error)


def measurements(
    name: str,
    nats: Tensor,
    tokens: Tensor,
    *,
    sample: Sample,
    draws_error: float | None,
    size: Tensor | None,
) -> dict[str, Measurement]:
    """All that is said of −log p, or of a bound on it.

    Args:
        name: of the number in nats per token.
        nats, tokens: ``[N]`` float64, of each block.
        sample: the units that the standard error is over.
        draws_error: of Σ nats, on these very blocks; None where it is not known.
        size: ``[N]`` float64, the UTF-8 bytes of each block; None where that is not known.
    """

    def per(divisor: Tensor, unit: str, scale: float) -> Measurement:
        value, error = ratio_of_sums(sample.sums(nats) * scale, sample.sums(divisor))
        spread = None if draws_error is None else draws_error * scale / float(divisor.sum())
        return Measurement(value=value, stderr=error, unit=unit, draws_stderr=spread)

    nats_per_token = per(tokens, "nats/token", 1.0)
    found = {
        name: nats_per_token,
        "bits_per_token": per(tokens, "bits/token", 1 / math.log(2)),
        "ppl": exponential(nats_per_token),
    }
    if size is not None and size.sum() > 0:
        found["bits_per_byte"] = per(size, "bits/byte", 1 / math.log(2))
    return found


def require_measured(evaluator: str, split: Split, nats: Tensor, tokens: Tensor) -> None:
    """Refuse to make numbers of what is none.

    Args:
        evaluator, split: for the message.
        nats, tokens: of each block.

    Raises:
        DataError: where no token is scored.
        MdmkitError: where the network's cross-entropies are not finite.
    """
    if not tokens.sum() > 0:
        raise DataError(f"{evaluator}: no token of split {split!r} is scored")
    if not nats.isfinite().all():
        raise MdmkitError(
            f"{evaluator}: the network's cross-entropies on split {split!r} are not finite; its "
            "weights are damaged, or training diverged (a smaller learning_rate.peak, or an "
            "earlier --checkpoint)"
        )


def exponential(number: Measurement) -> Measurement:
    """Its exp, with errors by the delta method: d exp(x) = exp(x) dx.

    A number that is too large for that has the largest one there is: weights that are damaged
    should still be measured in nats.
    """
    value = math.exp(min(number.value, _LARGEST))
    spread = number.draws_stderr
    return Measurement(
        value=value,
        stderr=min(value * number.stderr, sys.float_info.max),
        draws_stderr=None if spread is None else min(value * spread, sys.float_info.max),
    )


def documents_of(source: BlockSource, blocks: Tensor) -> Tensor:
    """The document that each of the blocks ``[N]`` begins in; itself, where that is not known."""
    told = getattr(source, "documents", None)
    return blocks if told is None else torch.as_tensor(told(blocks))


def bytes_of(source: BlockSource, blocks: Tensor) -> Tensor | None:
    """The UTF-8 bytes of each of the blocks ``[N]``, float64; None where that is not known."""
    told = getattr(source, "utf8_bytes", None)
    return None if told is None else torch.as_tensor(told(blocks)).double()
