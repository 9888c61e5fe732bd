"""A denoiser small enough to write down whole, so that expectations are finite sums."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

from mdmkit.protocols import ObjectiveContext
from mdmkit.testing import run_facts
from mdmkit.values import Batch, Vocabulary


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class TableDenoiser(nn.Module):
    """Random logits for every input and position: any function of xt, and nothing else."""

    def __init__(self, vocab: Vocabulary, length: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.base = vocab.size ** torch.arange(length)
        size = vocab.size
        self.table = 2 * torch.randn(size**length, length, size, generator=draw)
        self.blocks = nn.ModuleList()

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        return self.table[(tokens * self.base).sum(-1)]

    def unembed(self, h: Tensor) -> Tensor:
        return h


@frozen(kw_only=True)
class Case:
    """One text, a random denoiser, and its cross-entropy under every mask."""

    vocab: Vocabulary
    text: Tensor  # [L]
    denoiser: TableDenoiser
    masks: Tensor  # [2^L, L] bool
    ce: Tensor  # [2^L] float64: the summed cross-entropies of the masked tokens, in nats

    @property
    def length(self) -> int:
        return len(self.text)

    @property
    def counts(self) -> Tensor:
        """Masked tokens of each mask, ``[2^L]``."""
        return self.masks.sum(-1)

    def h_of_count(self, k: int) -> float:
        """h_k: the mean cross-entropy of a masked token, k of L being masked."""
        return float(self.ce[self.counts == k].mean()) / k

    def h(self, ratio: float) -> float:
        """h at a mask ratio: a ratio of expectations."""
        k = self.counts
        chances = ratio**k * (1 - ratio) ** (self.length - k)
        return float((chances * self.ce).sum()) / (self.length * ratio)

    def nelbo(self) -> float:
        """Per token: Σ over masks of CE·∫ (1/t)·t^k·(1 − t)^(L−k) dt, a beta integral."""
        length, total = self.length, 0.0
        for k, ce in zip(self.counts.tolist(), self.ce.tolist(), strict=True):
            if k:
                total += ce * math.factorial(k - 1) * math.factorial(length - k)
        return total / math.factorial(length) / length

    def batch(self, rows: int) -> Batch:
        """The text, `rows` times."""
        return Batch(tokens=self.text.expand(rows, -1))

    def context(self, **parts: Any) -> ObjectiveContext:
        """What an objective is built from."""
        facts = run_facts(vocab=self.vocab, length=self.length)
        return ObjectiveContext(vocab=self.vocab, length=self.length, facts=facts, **parts)


@pytest.fixture(scope="session")
def case() -> Case:
    """L = 4, three tokens and the mask."""
    vocab = Vocabulary(size=4, mask_id=3)
    text = torch.tensor([2, 0, 1, 2])
    denoiser = TableDenoiser(vocab, len(text))
    masks = torch.tensor(list(itertools.product([False, True], repeat=len(text))))
    logits = denoiser(torch.where(masks, vocab.mask_id, text)).double()[..., :3]
    log_p = logits.detach().log_softmax(-1).gather(-1, text.expand_as(masks)[..., None])[..., 0]
    return Case(vocab=vocab, text=text, denoiser=denoiser, masks=masks, ce=-(log_p * masks).sum(-1))


@frozen(kw_only=True)
class AllOrders:
    """Draws that go once through every count 1..L and every order of the L positions."""

    length: int
    step: int = 0

    @property
    def orders(self) -> Tensor:
        return torch.tensor(list(itertools.permutations(range(self.length))))

    @property
    def rows(self) -> Tensor:
        return torch.arange(self.length * len(self.orders))

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        return self.orders.repeat(self.length, 1) / self.length

    def strata(self, stream: str, kind: str, *, group: int = 1) -> Tensor:
        counts = torch.arange(self.length, dtype=torch.float64).repeat_interleave(len(self.orders))
        return (counts + 0.5) / self.length


@pytest.fixture(scope="session")
def all_orders() -> Callable[..., AllOrders]:
    return AllOrders


@pytest.fixture(scope="session")
def expected_loss() -> Callable[..., float]:
    """The training loss's expectation, by the midpoint rule over u and a sum over all masks."""

    def expect(case: Case, ce: Tensor, *, schedule: Any, density: Any, weighting: Any) -> float:
        points = 20_000
        u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
        t = density.icdf(u)
        alpha, dalpha, q = schedule.alpha(t), schedule.dalpha(t), density.density(t)
        length, total = case.length, torch.zeros(points, dtype=torch.float64)
        for mask, cost in zip(case.masks, ce, strict=True):
            k = int(mask.sum())
            if not k:
                continue  # nothing masked, nothing to pay
            chance = {
                "time": (1 - alpha) ** k * alpha ** (length - k),
                "rao_blackwell": (1 - alpha) ** k * alpha ** (length - k),
                "count": (((1 - alpha) * length).ceil() == k) / math.comb(length, k),
            }[getattr(weighting, "estimator", "time")]
            weight = weighting.weight(
                t=t,
                alpha_t=alpha,
                dalpha_t=dalpha,
                density=q,
                mask=mask.expand(points, -1),
                mask_count=torch.full_like(t, k),
                token_count=torch.full_like(t, length),
                step=0,
            )
            total += chance * weight * cost
        return float(total.mean()) / length

    return expect
