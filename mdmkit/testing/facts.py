"""Made-up facts of a run, for components that ask for them, and a network to try things on."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional

from mdmkit.protocols import ObjectiveContext, RunFacts
from mdmkit.values import Attention, Batch, Vocabulary

VOCAB = Vocabulary(size=11, mask_id=10, bos_id=0, eos_id=1, pad_id=2)


def run_facts(*, vocab: Vocabulary = VOCAB, length: int = 16) -> RunFacts:
    """The facts of a small run, with the linear schedule."""
    from mdmkit.builtin.schedules import Linear

    return RunFacts(
        vocab=vocab,
        length=length,
        steps=100,
        global_batch_size=32,
        learning_rate=lambda step: min(1.0, (step + 1) / 10),
        token_counts=lambda: torch.arange(1, vocab.size + 1, dtype=torch.float64),
        noise_schedule=Linear(),
    )


def live(component: Any, facts: RunFacts | None = None) -> Any:
    """The live component: ``build(facts)`` where there is one, else the component itself."""
    return (facts or run_facts()).live(component)


def objective_context(facts: RunFacts | None = None) -> ObjectiveContext:
    """Standard training: uniform t, independent masks, linear schedule, the NELBO's weight."""
    from mdmkit.builtin.mask_patterns import Independent
    from mdmkit.builtin.schedules import Linear
    from mdmkit.builtin.time_samplers import Uniform
    from mdmkit.builtin.weightings import Elbo

    facts = facts or run_facts()
    return ObjectiveContext(
        vocab=facts.vocab,
        length=facts.length,
        noise_schedule=Linear(),
        time_sampler=Uniform(),
        mask_pattern=Independent(),
        loss_weighting=Elbo(),
        facts=facts,
    )


class HashDenoiser(nn.Module):
    """A network whose logits depend, at random, on every token that a position may see.

    Small, and without a structure that would hide an error: position i's features are a fixed
    random function of the tokens that it attends to and of where they stand.
    """

    def __init__(self, vocab_size: int, *, width: int = 8, length: int = 64, seed: int = 0) -> None:
        """Draw the functions from `seed`; `length` is the longest text."""
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.values = nn.Parameter(torch.randn(vocab_size, width, generator=draw))
        self.mix = nn.Parameter(torch.randn(length, length, generator=draw))
        self.place = nn.Parameter(torch.randn(length, width, generator=draw))
        self.head = nn.Parameter(torch.randn(width, vocab_size, generator=draw))
        self.blocks = nn.ModuleList()

    def forward(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention | None = None
    ) -> Tensor:
        """``[B, L]`` to ``[B, L, D]``; `t` is not looked at."""
        del t
        attention, length = attention or Attention(), tokens.shape[1]
        seen = torch.ones(1, length, length, dtype=torch.bool)
        if attention.causal:
            seen = seen.tril()
        if attention.document_ids is not None:
            ids = attention.document_ids
            seen = seen & (ids[:, :, None] == ids[:, None, :])
        if attention.padding is not None:
            seen = seen & attention.padding[:, None, :]
        where = attention.positions
        where = torch.arange(length)[None] if where is None else where
        mixed = (self.mix[where[:, :, None], where[:, None, :]] * seen) @ self.values[tokens]
        return torch.tanh(mixed + self.place[where])

    def unembed(self, h: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., V]``."""
        return h @ self.head


class UniformDenoiser(nn.Module):
    """A network that says the same of every token: logits of zero."""

    def __init__(self, vocab_size: int) -> None:
        """Know how many tokens there are."""
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))
        self.vocab_size = vocab_size
        self.blocks = nn.ModuleList()

    def forward(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention | None = None
    ) -> Tensor:
        """``[B, L]`` to ``[B, L, 1]``."""
        del t, attention
        return torch.ones(*tokens.shape, 1) * self.scale

    def unembed(self, h: Tensor) -> Tensor:
        """``[..., 1]`` to ``[..., V]`` zeros."""
        return h.expand(*h.shape[:-1], self.vocab_size)


def random_batch(rows: int, length: int, vocab: Vocabulary = VOCAB, *, seed: int = 0) -> Batch:
    """Clean text of random tokens, never the mask; the last positions of row 0 are padding."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab.size - 1, (rows, length), generator=draw)
    tokens = tokens + (tokens >= vocab.mask_id)  # every id but the mask's
    real = torch.ones(rows, length, dtype=torch.bool)
    real[0, length - length // 4 :] = False
    return Batch(tokens=tokens, real=real, rows=torch.arange(rows))


@frozen
class GlobalGenerator:
    """Whether torch's global generator was used between two looks at it."""

    state: Tensor

    @classmethod
    def now(cls) -> GlobalGenerator:
        """Its state."""
        return cls(torch.get_rng_state())

    def untouched(self) -> bool:
        """Whether it is still in the same state."""
        return torch.equal(self.state, torch.get_rng_state())


def cross_entropies(logits: Tensor, targets: Tensor, mask_id: int) -> Tensor:
    """−log softmax at the targets ``[...]``, in float64, the mask excluded."""
    hidden = functional.one_hot(torch.tensor(mask_id), logits.shape[-1]).bool()
    log_p = logits.double().masked_fill(hidden, -torch.inf).log_softmax(-1)
    return -log_p.gather(-1, targets[..., None])[..., 0]
