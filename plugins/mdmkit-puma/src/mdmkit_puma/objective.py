"""Progressive unmasking at work: what a row is asked at each step, and what is lifted after it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import mask_tokens, time_at_mask_rate, uniform_subset
from mdmkit.head import weighted_loss
from mdmkit.protocols import Denoiser, Draws, Objective, ObjectiveContext
from mdmkit.values import Batch, Bound, Loss, Noised
from mdmkit_puma import Puma
from mdmkit_puma.pool import Pool, Seats
from mdmkit_puma.watching import Watched


@frozen(kw_only=True)
class PoolNoised(Noised):
    """A micro-batch out of the pool.

    Attributes:
        seats: the rows of the pool that it is made of, on the CPU.
        lift: ``[B]`` int64, how many tokens are lifted after the step, the surest first.
    """

    seats: Seats
    lift: Tensor


@frozen(kw_only=True, eq=False)
class LivePuma:
    """`Puma` with its pool.

    `corrupt` reads the pool and never changes it, so that a step can be asked for again; `loss`
    is what moves its rows on.

    Attributes:
        measure: the objective whose bound is reported.
        pool: the sequences of all rows.
    """

    options: Puma
    context: ObjectiveContext
    measure: Objective
    pool: Pool
    exact: ClassVar[bool] = False
    group: ClassVar[int] = 1

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """The state of each row; where one is done, the batch's sequence takes its place."""
        parts, seats = self.context, self.seats(batch, draws)
        tokens = _like(batch, seats)
        mask_count, token_count = seats.masked.sum(-1).double(), seats.scored.sum(-1).double()
        rate = mask_count / token_count.clamp(min=1)
        hidden = seats.masked
        if batch.padding_seen:
            noise = draws.uniform("puma/padding", hidden.shape[-1])
            hidden = hidden | (~seats.real & (noise < rate[:, None]))
        t = time_at_mask_rate(parts.noise_schedule.alpha, rate)
        alpha_t, dalpha_t = parts.noise_schedule.alpha(t), parts.noise_schedule.dalpha(t)
        weights = parts.loss_weighting.weight(
            t=t,
            alpha_t=alpha_t,
            dalpha_t=dalpha_t,
            density=-dalpha_t,  # of times whose mask ratios are uniform
            mask=seats.masked,
            mask_count=mask_count,
            token_count=token_count,
            step=draws.step,
        )
        weights = weights.reshape(len(t), -1).expand(hidden.shape)  # [B] or [B, L] to [B, L]
        if parts.loss_weighting.normalizer == "sequence":
            weights = weights / mask_count.clamp(min=1)[:, None]
        denominators = {
            "tokens": token_count.sum(),
            "masked": mask_count.sum(),
            "weights": weights.where(seats.masked, 0.0).sum(),
            "sequence": torch.tensor(float(len(t)), dtype=torch.float64),
        }
        return PoolNoised(
            inputs=mask_tokens(seats.tokens, hidden, parts.vocab.mask_id),
            targets=seats.tokens,
            in_loss=seats.masked,
            weights=weights.float(),
            t=t.float(),
            attention=tokens.attention(),
            denominator=denominators[parts.loss_weighting.normalizer],
            seats=seats,
            lift=self._lift(seats, draws),
        )

    def seats(self, batch: Batch, draws: Draws) -> Seats:
        """The rows of a micro-batch as they are trained at this step."""
        stages, length = self.options.stages, batch.tokens.shape[-1]
        again, old = self.pool.seats(draws.rows, draws.step, length)
        onward = old.stage + 1
        if self.options.threshold < 1:  # so much may be visible that stages are left out
            visible, size = (old.scored & ~old.masked).sum(-1), old.scored.sum(-1)
            onward = torch.maximum(onward, (visible * stages - 1) // size.clamp(min=1))
        stage = torch.where(again, old.stage, onward)
        done = (stage >= stages) | ~old.masked.any(-1) | self.pool.empty(draws.rows)
        fresh = self._fresh(batch, draws)
        swap = done[:, None]
        return Seats(
            rows=old.rows,
            step=old.step,
            stage=torch.where(done, fresh.stage, stage),
            tokens=torch.where(swap, fresh.tokens, old.tokens),
            documents=torch.where(swap, fresh.documents, old.documents),
            real=torch.where(swap, fresh.real, old.real),
            scored=torch.where(swap, fresh.scored, old.scored),
            masked=torch.where(swap, fresh.masked, old.masked),
        )

    def _fresh(self, batch: Batch, draws: Draws) -> Seats:
        """The sequences of the batch as they would begin, with random tokens visible.

        The first that a row has begins in a stage of the row's own, so that all stages are there
        from the first step; a later one begins in the first stage.
        """
        rows, total = draws.rows, self.context.facts.global_batch_size
        own = rows % total * self.options.stages // total
        stage = own.where(self.pool.empty(rows), 0)
        scored, documents = batch.scored(), batch.document_ids
        visible = self._visible(stage, scored.sum(-1), draws.uniform("puma/begin"))
        if self.options.restart == "all_masked":
            visible = visible.where(stage > 0, 0)
        noise = draws.uniform("puma/visible", scored.shape[-1])
        return Seats(
            rows=rows,
            step=draws.step,
            stage=stage,
            tokens=batch.tokens,
            documents=torch.zeros_like(batch.tokens) if documents is None else documents,
            real=torch.ones_like(scored) if batch.real is None else batch.real,
            scored=scored,
            masked=scored & ~uniform_subset(noise, visible, scored),
        )

    def _visible(self, stage: Tensor, size: Tensor, u: Tensor) -> Tensor:
        """How many of n tokens a row shows in a stage: (j + u)/K of them, but never all.

        Args:
            stage: j, ``[B]`` int64.
            size: n, ``[B]`` int64.
            u: ``[B]``, uniform on [0, 1).
        """
        share = (stage.double() + u.double()) / self.options.stages
        return torch.minimum((share * size).round().long(), size - 1).clamp(min=0)

    def _lift(self, seats: Seats, draws: Draws) -> Tensor:
        """How many tokens of each row are lifted after the step: ``[B]`` int64."""
        visible = (seats.scored & ~seats.masked).sum(-1)
        u = draws.uniform("puma/next")
        wanted = self._visible(seats.stage + 1, seats.scored.sum(-1), u)
        return (wanted - visible).clamp(min=0)

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The weighted sum of the masked cross-entropies; the rows move on by what it shows."""
        mask_id = self.context.vocab.mask_id
        if not isinstance(noised, PoolNoised):
            return weighted_loss(denoiser, noised, mask_id)
        noised = noised.placed()
        watched = Watched(denoiser, self.options.order, mask_id)
        loss = weighted_loss(watched, noised, mask_id)
        with torch.no_grad():
            left = noised.in_loss & ~self._lifted(noised, *watched.seen())
        self.pool.trained(noised.seats, left)
        return loss

    def _lifted(self, noised: PoolNoised, best: Tensor, score: Tensor) -> Tensor:
        """What becomes visible after a step: ``[B, L]`` bool.

        Args:
            noised: the step's, with its places.
            best: ``[C]``, log-probability of the likeliest token at each place.
            score: ``[C]``, the highest is lifted first.
        """
        mask = noised.in_loss
        surest = uniform_subset(-_in_place(score, noised), noised.lift, mask)
        if self.options.threshold == 1:
            return surest
        return surest | (mask & (_in_place(best, noised) > math.log(self.options.threshold)))

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """The bound of the objective that measures: see there."""
        return self.measure.bound(denoiser, batch, draws)

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The masked cross-entropies of the objective that measures: see there."""
        return self.measure.nll(denoiser, batch, mask)

    def state_dict(self) -> dict[str, Tensor]:
        """The pool's; with several ranks all of them must call it."""
        return self.pool.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.pool.load_state_dict(state)


def _like(batch: Batch, seats: Seats) -> Batch:
    """The sequences of `seats` as a batch that asks for attention as `batch` does."""
    padded = batch.real is not None or not bool(seats.real.all())
    return Batch(
        tokens=seats.tokens,
        real=seats.real if padded else None,
        document_ids=None if batch.document_ids is None else seats.documents,
        padding_seen=batch.padding_seen,
    )


def _in_place(values: Tensor, noised: Noised) -> Tensor:
    """``values [C]`` of the places of `noised`, where they belong: ``[B, L]``, 0 elsewhere."""
    places, size = noised.places, noised.in_loss.numel()
    assert places is not None
    if noised.valid is not None:
        places = places.where(noised.valid, size)  # what fills up goes to a place of its own
    return values.new_zeros(size + 1).index_copy_(0, places, values)[:size].view_as(noised.in_loss)
