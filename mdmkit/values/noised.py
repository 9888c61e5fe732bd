"""Text made ready for the network, and what the network's answer costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from attrs import evolve, frozen

from mdmkit.values.mapped import mapped
from mdmkit.values.text import Attention

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@frozen(kw_only=True)
class Noised:
    """One micro-batch made ready for the network by an objective.

    A row may have more inputs than its text has positions, S > L: then ``attention.positions`` says
    where each stands, and ``inputs``, ``targets``, ``in_loss`` and ``weights`` are ``[B, S]``.

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
        places: ``[C]`` int64, the positions of ``in_loss`` in row-major order, numbered from 0 to
            B·L − 1; an objective leaves them out, and `placed` adds them.
        valid: ``[C]`` bool, False for places that are there to fill up; None where none is.
        chunk: what C was filled up to a multiple of: positions whose logits are made at once.
    """

    inputs: Tensor
    targets: Tensor
    in_loss: Tensor
    weights: Tensor
    t: Tensor | None
    attention: Attention
    denominator: Tensor
    places: Tensor | None = None
    valid: Tensor | None = None
    chunk: int = 1

    def placed(self, multiple: int = 1) -> Self:
        """The same with its `places`, while it is still on the CPU: a GPU would have to be asked.

        Args:
            multiple: their number is filled up to a multiple of this, with `valid` False; 1 keeps
                it, and `valid` None.
        """
        if self.places is not None:
            return self
        places = self.in_loss.flatten().nonzero()[:, 0]
        if multiple == 1:
            return evolve(self, places=places)
        count = len(places)
        filled = places.new_zeros(-(-count // multiple) * multiple)
        filled[:count] = places
        valid = filled.new_ones(len(filled)).cumsum(0) <= count
        return evolve(self, places=filled, valid=valid, chunk=multiple)

    def to(self, device: torch.device) -> Self:
        """The same on `device`; the denominator stays where it is."""
        moved = mapped(self, lambda tensor: tensor.to(device, non_blocking=True))
        return evolve(moved, denominator=self.denominator)

    def pinned(self) -> Self:
        """The same in page-locked memory, from which a GPU copies while the CPU goes on."""
        return mapped(self, lambda tensor: tensor.pin_memory())


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
        causal_part, masked_part: the rows of one kind by themselves; `placed` makes them (the
            masked ones where ``both`` is set).
    """

    causal: Tensor
    both: bool
    causal_part: NoisedRows | None = None
    masked_part: NoisedRows | None = None

    def placed(self, multiple: int = 1) -> Self:
        """The same with its parts, and with their places."""
        if self.causal_part is not None:
            return self
        return evolve(
            self,
            causal_part=self._part(causal=True, multiple=multiple),
            masked_part=self._part(causal=False, multiple=multiple) if self.both else None,
        )

    def _part(self, *, causal: bool, multiple: int) -> NoisedRows:
        """The rows of one kind. Without any, the first row with nothing in the loss."""
        wanted = self.causal == causal
        rows = wanted.nonzero()[:, 0]
        rows = rows if len(rows) else rows.new_zeros(1)
        t = None if self.t is None else self.t[rows]
        part = Noised(
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            in_loss=self.in_loss[rows] & wanted[rows, None],
            weights=self.weights[rows],
            t=t if t is None or not causal else t.new_zeros(len(rows)),  # what is seen is clean
            attention=evolve(self.attention.of_rows(rows), causal=causal),
            denominator=self.denominator,
        )
        return NoisedRows(rows=rows, noised=part.placed(multiple))


@frozen(kw_only=True)
class NoisedRows:
    """Some rows of a micro-batch by themselves.

    Attributes:
        rows: ``[N]`` int64, their numbers in it.
        noised: these rows.
    """

    rows: Tensor
    noised: Noised


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
