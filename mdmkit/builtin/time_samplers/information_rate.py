"""Times where one forward can teach the most: our own adaptive bell."""

from __future__ import annotations

from functools import cached_property

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.time_samplers.beta import Beta
from mdmkit.builtin.time_samplers.online import (
    OnlineDensity,
    OnlineSums,
    interpolate,
    isotonic,
    mean_of,
)
from mdmkit.options import option
from mdmkit.protocols import RunFacts


@frozen(kw_only=True)
class InformationRate:
    """q(t) ∝ r(t)·(H₁ − ĥ(t)): the nats that one forward can still teach (ours).

    r(t) is the share of tokens masked at t (t itself under the linear schedule), H₁ the entropy
    of single tokens in the training text, and ĥ(t) the present mean cross-entropy of a masked
    token, both in nats. At t → 1 nothing is left to see and ĥ is H₁ at best; at t → 0 next to
    nothing is predicted. Where h is linear from 0 to H₁, q is Beta(2, 2), its parameter-free
    form, which is also what the warm-up uses.

    r and ĥ are estimated online, in equal bins of t, from every row of the global batch: ratios
    of sums over about the last `memory` steps. ĥ is made increasing by weighted isotonic
    regression, both are interpolated between the bins, and H₁ − ĥ is at least 0. To that gain
    `prior`·(1 − r) nats are added, so that q stays near Beta(2, 2) until there is more to be
    learned from context than that. Under twins of a mask pattern, q is the density that the
    first twin is drawn from.
    """

    bins: int = option(32, ge=2, le=1024, doc="equal bins of t in which ĥ is estimated")
    memory: float = option(200.0, ge=1, doc="steps after which an observation counts 1/e")
    warmup: int = option(200, ge=0, doc="first steps, with Beta(2, 2)")
    prior: float = option(0.2, gt=0, doc="nats that are added to the gain at r = 0, none at 1")
    floor: float = option(0.05, gt=0, le=1, doc="share of the mass that is spread uniformly")

    def build(self, facts: RunFacts) -> LiveInformationRate:
        """The live sampler; the tokens are counted when the warm-up is over."""
        return LiveInformationRate(self, facts)


class LiveInformationRate(OnlineDensity):
    """`InformationRate` with what it has observed."""

    def __init__(self, options: InformationRate, facts: RunFacts) -> None:
        """Start with nothing observed."""
        sums = OnlineSums(bins=options.bins, memory=options.memory, columns=5)
        super().__init__(sums, before=Beta(), warmup=options.warmup, floor=options.floor)
        self._prior, self._facts = options.prior, facts

    @cached_property
    def unigram_entropy(self) -> float:
        """H₁ in nats; reads the training text."""
        counts = self._facts.token_counts()
        p = counts / counts.sum()
        return float(torch.special.entr(p).sum())

    def _columns(self, t: Tensor, nll: Tensor, count: Tensor) -> Tensor:
        return torch.stack([torch.ones_like(t), t, count, count * t, nll], dim=-1)

    def _shape(self, t: Tensor) -> Tensor | None:
        rows, t_rows, count, t_count, nll = self.sums.values.unbind(-1)
        # h of a bin is a mean over tokens, r one over rows: each stands at its own mean time.
        by_token, tokens = mean_of(torch.stack([t_count, nll], dim=-1), count)
        by_row, _ = mean_of(torch.stack([t_rows, count], dim=-1), rows)
        if len(tokens) == 0:
            return None
        h = interpolate(t, by_token[:, 0], isotonic(by_token[:, 1], tokens))
        nothing = by_row.new_zeros(1)  # is masked at t = 0
        places = torch.cat([nothing, by_row[:, 0]])
        share = torch.cat([nothing, by_row[:, 1] / self._facts.length])
        r = interpolate(t, places, share).clamp(max=1)
        gain = (self.unigram_entropy - h).clamp(min=0) + self._prior * (1 - r)
        return r * gain
