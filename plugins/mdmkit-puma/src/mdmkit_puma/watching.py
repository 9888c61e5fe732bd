"""How sure a network is of what it is asked, seen in the logits that its loss is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mdmkit.diffusion import masked_logits
from mdmkit.protocols import Denoiser
from mdmkit.values import Attention

Order = Literal["confidence", "margin", "entropy"]

_PLAIN = Attention()


class Watched:
    """A denoiser that notes, of every position it is asked about, how sure it is.

    `mdmkit.head.weighted_loss` has the logits of a chunk of positions made at a time, each
    position once and in order, so that what is noted is in the order of ``Noised.places``. The
    logits themselves are not kept.
    """

    def __init__(self, denoiser: Denoiser, order: Order, mask_id: int) -> None:
        """Watch `denoiser`; `order` says what counts as sure."""
        self._denoiser, self._score, self._mask_id = denoiser, SCORES[order], mask_id
        self._best: list[Tensor] = []
        self._scores: list[Tensor] = []

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """Those of the denoiser."""
        return self._denoiser.blocks

    def __call__(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention = _PLAIN
    ) -> Tensor:
        """What the denoiser says."""
        return self._denoiser(tokens, t=t, attention=attention)

    def unembed(self, h: Tensor) -> Tensor:
        """The denoiser's logits, after a look at them."""
        logits = self._denoiser.unembed(h)
        with torch.no_grad():
            log_p = masked_logits(logits.detach(), self._mask_id).log_softmax(-1)
            self._best.append(log_p.amax(-1))
            self._scores.append(self._score(log_p))
        return logits

    def seen(self) -> tuple[Tensor, Tensor]:
        """Of each position: the likeliest token's log-probability and the score, ``[C]`` float32.

        Who has the highest score is lifted first.
        """
        return torch.cat(self._best), torch.cat(self._scores)


def confidence(log_p: Tensor) -> Tensor:
    """log-probability of the likeliest token: ``[C, V]`` to ``[C]``."""
    return log_p.amax(-1)


def margin(log_p: Tensor) -> Tensor:
    """By how much the likeliest token is likelier than the next: ``[C, V]`` to ``[C]``."""
    best = log_p.topk(2, -1).values.exp()
    return best[:, 0] - best[:, 1]


def negative_entropy(log_p: Tensor) -> Tensor:
    """−H in nats: ``[C, V]`` to ``[C]``."""
    return (log_p.exp() * log_p.clamp(min=-1e4)).sum(-1)  # the mask's −∞ has probability 0


SCORES: Mapping[Order, Callable[[Tensor], Tensor]] = {
    "confidence": confidence,
    "margin": margin,
    "entropy": negative_entropy,
}
"""log p(token) ``[C, V]`` at masked positions to what says who is first: the highest."""
