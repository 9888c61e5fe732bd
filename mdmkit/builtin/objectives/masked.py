"""Masked diffusion: predict what the masks hide."""

from __future__ import annotations

from typing import ClassVar

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.diffusion import (
    mask_tokens,
    scattered,
    time_at_mask_rate,
    uniform_subset,
    with_padding,
)
from mdmkit.head import cross_entropies, weighted_loss
from mdmkit.options import option
from mdmkit.protocols import Denoiser, Draws, ObjectiveContext, Prediction, Stratification
from mdmkit.values import Batch, Bound, Loss, Noised


@frozen(kw_only=True)
class MaskedDiffusion:
    """Masked diffusion (MDLM, arXiv 2406.07524; MD4, arXiv 2406.04329).

    The time of each row is drawn from the time sampler, its masks from the mask pattern at rate
    1 − alpha_t, and the cross-entropies at masked positions are weighted by the loss weighting.
    """

    stratification: Stratification = option(
        "jittered", doc="how t is spread over the global batch: iid, jittered, offset or mirrored"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    prediction: ClassVar[Prediction] = "masked"

    def build(self, context: ObjectiveContext) -> LiveMaskedDiffusion:
        """The live objective."""
        return LiveMaskedDiffusion(options=self, context=context)


@frozen(kw_only=True, eq=False)
class LiveMaskedDiffusion:
    """`MaskedDiffusion` with the components it is made of."""

    options: MaskedDiffusion
    context: ObjectiveContext
    exact: ClassVar[bool] = False

    @property
    def group(self) -> int:
        """Rows that share one sequence: the mask pattern's twins."""
        return self.context.mask_pattern.group

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """Draw times and masks, and weigh the masked positions."""
        parts = self.context
        density = parts.time_sampler.at(draws.step)
        t = density.icdf(draws.strata("time", self.options.stratification, group=self.group))
        rate = 1 - parts.noise_schedule.alpha(t)

        maskable, member = batch.scored(), draws.rows % self.group  # [B, L], [B]
        noise = draws.uniform("mask", maskable.shape[-1], group=self.group)
        mask = parts.mask_pattern.mask(
            rate=rate,
            noise=noise,
            row_noise=draws.uniform("mask/row", group=self.group),
            member=member,
            maskable=maskable,
            step=draws.step,
        )
        mask_count, token_count = mask.sum(-1).double(), maskable.sum(-1).double()
        hidden = mask
        if batch.padding_seen and batch.real is not None:
            own = parts.mask_pattern.rate(rate, member, token_count)
            hidden = mask | (~batch.real & (noise < own[:, None]))
        t, q = self._own_times(t, density.density(t), rate, member, token_count)
        alpha_t, dalpha_t = parts.noise_schedule.alpha(t), parts.noise_schedule.dalpha(t)

        weights = parts.loss_weighting.weight(
            t=t,
            alpha_t=alpha_t,
            dalpha_t=dalpha_t,
            density=q,
            mask=mask,
            mask_count=mask_count,
            token_count=token_count,
            step=draws.step,
        )
        weights = weights.reshape(len(t), -1).expand(mask.shape)  # [B] or [B, L] to [B, L]
        if parts.loss_weighting.normalizer == "sequence":
            weights = weights / mask_count.clamp(min=1)[:, None]
        denominators = {
            "tokens": token_count.sum(),
            "masked": mask_count.sum(),
            "weights": weights.where(mask, 0.0).sum(),  # elsewhere they may be infinite
            "sequence": torch.tensor(float(len(t)), dtype=torch.float64),
        }
        return Noised(
            inputs=mask_tokens(batch.tokens, hidden, parts.vocab.mask_id),
            targets=batch.tokens,
            in_loss=mask,
            weights=weights.float(),
            t=t.float(),
            attention=batch.attention(),
            denominator=denominators[parts.loss_weighting.normalizer],
        )

    def _own_times(
        self, t: Tensor, q: Tensor, rate: Tensor, member: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Times and densities of the rows; a twin with a mask rate of its own has its own.

        A twin's rate r' keeps lengths, so p(r') = p(r) and q(t')/|alpha'(t')| = q(t)/|alpha'(t)|.
        """
        if self.group == 1:
            return t, q
        schedule = self.context.noise_schedule
        own = self.context.mask_pattern.rate(rate, member, size)
        moved = torch.where(own == rate, t, time_at_mask_rate(schedule.alpha, own))
        return moved, q * (schedule.dalpha(moved) / schedule.dalpha(t))

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The weighted sum of the masked cross-entropies."""
        return weighted_loss(denoiser, noised, self.context.vocab.mask_id)

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """One draw of the NELBO as the any-order autoregressive loss: exact masks, no weight.

        With k uniform on 1..n and a uniform subset of k masked tokens, n·(mean cross-entropy of
        the k) has the expectation Σ_k h_k = ∫ n·h dt (arXiv 2110.02037, eq. 5). It does not
        depend on schedule, time sampler or weighting, and has no end-point terms.
        """
        maskable = batch.scored()
        token_count = maskable.sum(-1)
        u = draws.strata("bound/time", "jittered").to(batch.tokens.device)
        noise = draws.uniform("bound/mask", maskable.shape[-1]).to(batch.tokens.device)
        count = (u * token_count).ceil().long()  # uniform on 1..n
        mask = uniform_subset(noise, count, maskable)
        if batch.padding_seen and batch.real is not None:
            mask = with_padding(mask, noise, ~batch.real)
        nats = self.nll(denoiser, batch, mask).sum(-1) * token_count / count.clamp(min=1)
        return Bound(nats=nats, tokens=token_count, masked=count)

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The masked cross-entropies ``[B, L]``, at the time whose mask rate is that of the row.

        Padding under the mask is masked, but has no cross-entropy.
        """
        xt = mask_tokens(batch.tokens, mask, self.context.vocab.mask_id)
        mask = mask if batch.real is None else mask & batch.real
        rate = mask.sum(-1).double() / batch.scored().sum(-1).clamp(min=1)
        t = time_at_mask_rate(self.context.noise_schedule.alpha, rate)
        h = denoiser(xt, t=t.float(), attention=batch.attention())
        nll = cross_entropies(denoiser, h[mask], batch.tokens[mask], self.context.vocab.mask_id)
        return scattered(nll.double(), mask)
