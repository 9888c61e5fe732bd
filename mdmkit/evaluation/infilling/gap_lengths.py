"""How long a gap is to be, where a template leaves that open: what its surroundings say.

Rows of different lengths cannot be compared by the NELBO of the whole row: in nats the shortest
wins, and per token the sampler's temperature decides, for text that is drawn colder than the
network's own is cheap, and more of it lowers the mean. What all candidates share is the given
text. Its NELBO with the gaps masked bounds −log p(given text | lengths), with the gaps summed
over, so the candidates are weighed as by Bayes's rule with every length equally likely at first.
It is known before anything is generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.diffusion import uniform_subset
from mdmkit.draws import StepDraws, derive_seed
from mdmkit.evaluation.infilling.frames import Frame, Start
from mdmkit.protocols import Denoiser, NetworkCall, Objective
from mdmkit.values import Batch

CANDIDATES = 64
"""Combinations of lengths that are tried for one template at most."""


@frozen(kw_only=True)
class Candidate:
    """One way to size the gaps of a template, and how well the given text fits it.

    Attributes:
        lengths: tokens of each gap.
        nelbo: of the given tokens with the gaps masked, in nats.
        nelbo_stderr: its standard error over the draws.
        behind: how many nats it has more than the best candidate; all meet the same masks.
        behind_stderr: the standard error of that difference; 0 for the best itself.
        chosen: whether it is the best.
    """

    lengths: tuple[int, ...]
    nelbo: float
    nelbo_stderr: float
    behind: float = 0.0
    behind_stderr: float = 0.0
    chosen: bool = False


@frozen(kw_only=True, eq=False)
class LengthChooser:
    """Sizes the gaps of templates.

    Attributes:
        call: runs a function of the denoiser.
        objective: of the run; it predicts what is masked.
        mask_id: the mask.
        device: where the network lives.
        draws: n, masks for each candidate.
        seed: of the draws.
        batch_size: rows a network call.
        multiple: the row's length must be a multiple of this.
    """

    call: NetworkCall
    objective: Objective
    mask_id: int
    device: torch.device
    draws: int
    seed: int
    batch_size: int
    multiple: int = 1

    def candidates(self, frame: Frame) -> tuple[Candidate, ...]:
        """Every way to size the gaps of `frame` that the denoiser can take, scored.

        With k uniform on 1..n of the n given tokens masked, n times their mean cross-entropy
        bounds −log p as in arXiv 2110.02037, eq. 5, here with the gaps always masked. Neither k
        nor the masks depend on the candidate, nor on other templates.
        """
        starts = {lengths: frame.start(lengths, self.mask_id) for lengths in frame.lengths()}
        nats = {
            lengths: self._nats(start)
            for lengths, start in starts.items()
            if len(start.ids) % self.multiple == 0
        }
        if not nats:
            return ()
        best = min(nats, key=lambda lengths: nats[lengths].mean().item())
        found = [self._candidate(lengths, nats[lengths], nats[best]) for lengths in nats]
        return tuple(evolve(one, chosen=one.lengths == best) for one in found)

    def _candidate(self, lengths: Sequence[int], nats: Tensor, best: Tensor) -> Candidate:
        return Candidate(
            lengths=tuple(lengths),
            nelbo=nats.mean().item(),
            nelbo_stderr=self._stderr(nats),
            behind=(nats - best).mean().item(),
            behind_stderr=self._stderr(nats - best),
        )

    def _stderr(self, nats: Tensor) -> float:
        """That of the mean of n draws; a little too large, because k is stratified."""
        return nats.std().item() / math.sqrt(self.draws)

    def _nats(self, start: Start) -> Tensor:
        """The draws of one candidate: ``[n]`` float64."""
        given = torch.tensor(start.given)
        draws = StepDraws(
            seed=derive_seed(self.seed, "gap lengths"),
            step=0,
            rows=torch.arange(self.draws),
            global_rows=self.draws,
        )
        count = (draws.strata("count", "jittered") * len(given)).ceil().long()  # 1..n
        noise = draws.uniform("mask", len(given))
        asked = uniform_subset(noise, count, torch.ones_like(noise, dtype=torch.bool))
        mask = torch.ones(self.draws, len(start.ids), dtype=torch.bool)  # gaps always
        mask[:, given] = asked
        tokens = torch.tensor(start.ids).expand(self.draws, -1)
        tokens = tokens.masked_fill(tokens == self.mask_id, int(self.mask_id == 0))  # any but it
        firsts = range(0, self.draws, self.batch_size)
        slices = (slice(first, first + self.batch_size) for first in firsts)
        parts = [self._nll(tokens[some], mask[some]) for some in slices]
        nll = torch.cat(parts)[:, given].masked_fill(~asked, 0.0)
        return nll.sum(-1) * len(given) / count

    def _nll(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The cross-entropies under ``mask [B, L]``, those in the gaps of no meaning."""
        # All tokens count as maskable: the rate that a denoiser with a time is told is then that
        # of the whole row, as in training.
        batch, mask = Batch(tokens=tokens.to(self.device)), mask.to(self.device)

        def nll(denoiser: Denoiser) -> Tensor:
            return self.objective.nll(denoiser, batch, mask)

        return self.call(nll).double().cpu()
