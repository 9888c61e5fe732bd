"""Small distributions of texts, all of them listed, and networks that know them exactly.

A Markov chain and a hidden one: the entropies of the one fall from 0.96 nats a token with nothing
visible to 0.54 with all the others, those of the other from 0.64 to 0.44.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from attrs import field, frozen
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import one_hot

from mdmkit.builtin.schedules import Linear
from mdmkit.protocols import SamplerContext
from mdmkit.values import Attention, Generation, Vocabulary


@frozen(kw_only=True, eq=False)
class Texts:
    """A distribution over all texts of `length` tokens out of `states`; the next id is the mask.

    Attributes:
        chances: ``[N]`` float64, in the order of `all`.
    """

    states: int
    length: int
    chances: Tensor
    all: Tensor = field(init=False)  # [N, L]
    table: Tensor = field(init=False)  # [(states + 1)^L, L, V] the posterior at every input
    course: list[float] = field(init=False)  # h of 1, 2, …, L masks

    def __attrs_post_init__(self) -> None:
        listed = itertools.product(range(self.states), repeat=self.length)
        object.__setattr__(self, "all", torch.tensor(list(listed)))
        inputs = itertools.product(range(self.states + 1), repeat=self.length)
        table = self.posterior(torch.tensor(list(inputs)))
        table[..., self.mask_id] = 5.0  # to be ignored
        object.__setattr__(self, "table", table)
        course = [self._h(masks) for masks in range(1, self.length + 1)]
        object.__setattr__(self, "course", course)

    @property
    def mask_id(self) -> int:
        return self.states

    @property
    def vocab(self) -> Vocabulary:
        return Vocabulary(size=self.states + 1, mask_id=self.mask_id, bos_id=0)

    def posterior(self, xt: Tensor) -> Tensor:
        """log p(x_i | visible tokens of ``xt [B, L]``), by enumeration: ``[B, L, V]``."""
        fits = ((xt[:, None] == self.mask_id) | (xt[:, None] == self.all)).all(-1)  # [B, N]
        weights = fits * self.chances
        shares = weights / weights.sum(-1, keepdim=True)
        hot = one_hot(self.all, self.states + 1).double()  # [N, L, V]
        return torch.einsum("bn,nlv->blv", shares, hot).log()

    def masks(self, rows: int, given: dict[int, int] | None = None) -> Tensor:
        """``[rows, L]`` masks, but for given tokens by position."""
        tokens = torch.full((rows, self.length), self.mask_id)
        for place, token in (given or {}).items():
            tokens[:, place] = token
        return tokens

    def given(self, tokens: dict[int, int]) -> Tensor:
        """``[N]``: the distribution of texts with these tokens by position."""
        fits = torch.ones(len(self.all), dtype=torch.bool)
        for place, token in tokens.items():
            fits &= self.all[:, place] == token
        return fits * self.chances / (fits * self.chances).sum()

    def counts(self, tokens: Tensor) -> Tensor:
        """``[N]``: how often each text is among ``tokens [n, L]``."""
        powers = self.states ** torch.arange(self.length - 1, -1, -1)
        return torch.bincount((tokens * powers).sum(-1), minlength=len(self.all))

    def p_value(self, tokens: Tensor, expected: Tensor | None = None) -> float:
        """Of the chi-square test that ``tokens [n, L]`` are draws from `expected`, else from this.

        Texts that are expected fewer than five times are pooled.
        """
        expected = (self.chances if expected is None else expected) * len(tokens)
        counts, common = self.counts(tokens).double(), expected >= 5
        if (counts[expected == 0] > 0).any():
            return 0.0
        rare = ~common & (expected > 0)
        found, wanted = counts[common], expected[common]
        if rare.any():
            found = torch.cat([found, counts[rare].sum()[None]])
            wanted = torch.cat([wanted, expected[rare].sum()[None]])
        return float(chisquare(found.numpy(), (wanted * found.sum() / wanted.sum()).numpy()).pvalue)

    # -- what parallel unmasking does

    def partitioned(self, groups: Sequence[Sequence[int]]) -> Tensor:
        """``[N]``: the law of drawing each group of positions at once, given the groups before."""
        law, seen = torch.ones(len(self.all), dtype=torch.float64), self.masks(len(self.all))
        for group in groups:
            log_p = self.posterior(seen)
            for place in group:
                law = law * log_p[:, place].gather(-1, self.all[:, place, None])[:, 0].exp()
            for place in group:
                seen[:, place] = self.all[:, place]
        return law

    def kl(self, law: Tensor) -> float:
        """KL(this ‖ law) in nats."""
        some = self.chances > 0
        return float((self.chances[some] * (self.chances[some] / law[some]).log()).sum())

    def h(self, masks: int) -> float:
        """Mean entropy (nats) of a masked token, of `masks` masked ones in uniform places."""
        return self.course[masks - 1]

    def _h(self, masks: int) -> float:
        total, count = 0.0, 0
        for hidden in itertools.combinations(range(self.length), masks):
            xt = self.all.clone()
            xt[:, list(hidden)] = self.mask_id
            log_p = self.posterior(xt)[:, list(hidden), : self.states]
            entropy = -(log_p.exp() * log_p.clamp(min=-1e4)).sum(-1).mean(-1)  # [N]
            total, count = total + float((self.chances * entropy).sum()), count + 1
        return total / count

    @property
    def entropy(self) -> float:
        """H(X) in nats."""
        return float(-torch.xlogy(self.chances, self.chances).sum())


class Oracle:
    """The exact posterior of a distribution, looked up; it remembers times and attention."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        self.calls: list[tuple[Any, Attention]] = []
        self.powers = (texts.states + 1) ** torch.arange(texts.length - 1, -1, -1)

    def __call__(self, xt: Tensor, t: Any, attention: Attention, at: Any = None) -> Tensor:
        self.calls.append((t, attention))
        logits = self.texts.table[(xt * self.powers).sum(-1)]
        return logits if at is None else logits[at]


def context_of(logits: Any, texts: Texts, rows: int, **parts: Any) -> SamplerContext:
    """What a sampler is given, with noise from one generator for the whole batch."""
    source = torch.Generator().manual_seed(parts.pop("seed", 0))
    given = {
        "logits": logits,
        "uniform": lambda: torch.rand(rows, texts.length, generator=source, dtype=torch.float64),
        "vocab": texts.vocab,
        "noise_schedule": Linear(),
        "device": torch.device("cpu"),
        "length": texts.length,
    }
    return SamplerContext(**{**given, **parts})


def drawn(sampler: Any, texts: Texts, tokens: Tensor, **parts: Any) -> Generation:
    """The last state of a sampler that asks the oracle."""
    context = context_of(Oracle(texts), texts, len(tokens), **parts)
    return list(sampler.generate(tokens, context))[-1]


def chain() -> Texts:
    """A Markov chain of three states, four tokens long."""
    listed = torch.tensor(list(itertools.product(range(3), repeat=4)))
    moved = MOVE[listed[:, :-1], listed[:, 1:]].prod(-1)
    return Texts(states=3, length=4, chances=START[listed[:, 0]] * moved)


def hidden_chain() -> Texts:
    """Two tokens said by a hidden Markov chain of two states, five tokens long."""
    start = torch.tensor([0.7, 0.3], dtype=torch.float64)
    move = torch.tensor([[0.9, 0.1], [0.15, 0.85]], dtype=torch.float64)
    say = torch.tensor([[0.95, 0.05], [0.1, 0.9]], dtype=torch.float64)
    chances = []
    for text in itertools.product(range(2), repeat=5):
        forward = start * say[:, text[0]]
        for token in text[1:]:
            forward = (forward @ move) * say[:, token]
        chances.append(float(forward.sum()))
    return Texts(states=2, length=5, chances=torch.tensor(chances, dtype=torch.float64))


START = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
MOVE = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]], dtype=torch.float64)
CHAIN, HIDDEN = chain(), hidden_chain()
