"""The sum that every objective here comes down to."""

from __future__ import annotations

from mdmkit.diffusion import masked_nll, sum_by_row
from mdmkit.protocols import Denoiser
from mdmkit.values import Loss, Noised


def weighted_loss(denoiser: Denoiser, noised: Noised, mask_id: int) -> Loss:
    """The weighted sum of cross-entropies over ``noised.in_loss``; logits exist only there."""
    h = denoiser(noised.inputs, t=noised.t, attention=noised.attention)
    here = noised.in_loss
    nll = masked_nll(denoiser.unembed(h[here]), noised.targets[here], mask_id)  # [N]
    return Loss(
        total=(nll * noised.weights[here]).sum(),
        nll=sum_by_row(nll.detach(), here),
        tokens=here.sum(-1),
    )
