"""Rows of text on their way from masks to tokens: what every unmasking sampler does to them."""

from __future__ import annotations

import torch
from torch import Tensor

from mdmkit.choosing import Unmasking
from mdmkit.diffusion import uniform_subset
from mdmkit.protocols import SamplerContext
from mdmkit.values import Attention, Generation, Vocabulary


class Canvas:
    """The state of a generation, and the ways to change it.

    Attributes:
        tokens: ``[B, L]`` int64.
        given: ``[B, L]`` bool, what was visible at the start and never changes.
        log_p: ``[B, L]`` float64, see `mdmkit.values.Generation`.
        calls: how often the network was called.
        step: how many states were given out.
        worked: ``[B]`` int64, in how many steps a row had masks lifted.
    """

    def __init__(self, tokens: Tensor, context: SamplerContext, options: Unmasking) -> None:
        """Begin with ``tokens [B, L]``, which are left alone."""
        self.tokens, self.context, self.options = tokens, context, options
        self.mask_id = context.vocab.mask_id
        self.given = tokens != self.mask_id
        self.log_p = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        self.calls, self.step = 0, 0
        self.worked = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)

    @property
    def hidden(self) -> Tensor:
        """``[B, L]`` bool, where masks are."""
        return self.tokens == self.mask_id

    @property
    def done(self) -> bool:
        """Whether no mask is left in any row."""
        return not bool(self.hidden.any())

    def look(self, t: Tensor, at: Tensor | None = None, *, rows: Tensor | None = None) -> Tensor:
        """Call the network on the rows as they are.

        Args:
            t: ``[B]`` or a scalar, their times.
            at: ``[B, L]`` bool, where logits are wanted; everywhere by default.
            rows: ``[R]`` int64, the only rows that are shown; then `at` must be inside of them.

        Returns:
            Logits ``[B, L, V]``, or ``[N, V]`` of the positions.
        """
        self.calls += 1
        t = t.to(self.tokens.device).float().expand(len(self.tokens))
        if rows is None:
            return self.context.logits(self.tokens, t, Attention(), at)
        where = None if at is None else at[rows]
        show = self.context.logits_of(rows)
        return show(self.tokens[rows], t[rows], Attention(), where)

    def lift(
        self, t: Tensor, lifted: Tensor, noise: Tensor, *, only_changing: bool = False
    ) -> None:
        """Draw tokens for the masks ``lifted [B, L]`` at `t`; without any there is no call.

        Args:
            t: ``[B]`` or a scalar, the times of the rows.
            lifted: which masks.
            noise: ``[B, L]`` float64 on [0, 1).
            only_changing: show the network no row that stays as it is.
        """
        changing = lifted.any(-1).nonzero()[:, 0]
        if len(changing):
            some = changing if only_changing and len(changing) < len(lifted) else None
            self.draw(lifted, self.look(t, lifted, rows=some), noise)

    def few_enough(self, lifted: Tensor, order: Tensor) -> Tensor:
        """Of the masks that a step would lift, no more than ``min_steps`` allows.

        Args:
            lifted: ``[B, L]`` bool, what it would lift.
            order: ``[B, L]``, in which order: the lowest go first.
        """
        if self.options.min_steps == 1:
            return lifted
        left = (self.options.min_steps - self.worked).clamp(min=1)
        limit = -(-self.hidden.sum(-1) // left)  # [B]
        return uniform_subset(order, limit, lifted)

    def draw(self, lifted: Tensor, logits: Tensor, noise: Tensor) -> None:
        """Draw tokens for the masks ``lifted [B, L]`` from ``logits [N, V]``.

        Args:
            lifted: which masks.
            logits: theirs, in row-major order.
            noise: ``[B, L]`` float64 on [0, 1).
        """
        drawn = self.options.choose(logits, noise[lifted], self.mask_id)
        self.put(lifted, drawn.tokens, drawn.log_p)

    def put(self, lifted: Tensor, tokens: Tensor, log_p: Tensor) -> None:
        """Write ``tokens [N]`` under the masks ``lifted [B, L]``, with their ``log_p [N]``."""
        self.tokens = self.tokens.masked_scatter(lifted, tokens)
        self.log_p = self.log_p.masked_scatter(lifted, log_p)
        self.worked = self.worked + lifted.any(-1)
        if self.options.eos == "stop":
            self.tokens = texts_ended(self.tokens, lifted, self.context.vocab)

    def mask(self, where: Tensor) -> None:
        """Take back what was generated at ``where [B, L]``."""
        self.tokens = self.tokens.masked_fill(where, self.mask_id)
        self.log_p = self.log_p.masked_fill(where, 0.0)

    def fill(self, where: Tensor) -> None:
        """Write over ``where [B, L]`` what stands behind the end of a text."""
        self.tokens = self.tokens.masked_fill(where, _filling(self.context.vocab))
        self.log_p = self.log_p.masked_fill(where, 0.0)

    def state(self) -> Generation:
        """The next state to give out."""
        self.step += 1
        return Generation(
            tokens=self.tokens,
            step=self.step,
            network_evaluations=self.calls,
            log_p=self.log_p,
        )


def texts_ended(tokens: Tensor, generated: Tensor, vocab: Vocabulary) -> Tensor:
    """Nothing is generated behind an EOS that was: the masks there are filled up.

    Args:
        tokens: ``[B, L]``.
        generated: ``[B, L]`` bool, where an EOS ends the text.
        vocab: masks become padding, or EOS where there is none.

    Returns:
        ``[B, L]``; what is visible behind the EOS stays.
    """
    ended = behind_eos(tokens, generated, vocab)
    return tokens.masked_fill(ended & (tokens == vocab.mask_id), _filling(vocab))


def behind_eos(tokens: Tensor, generated: Tensor, vocab: Vocabulary) -> Tensor:
    """Where a text is over: ``[B, L]`` bool, behind the first EOS that is ``generated [B, L]``."""
    if vocab.eos_id is None:
        return torch.zeros_like(generated)
    ends = (generated & (tokens == vocab.eos_id)).long()
    return ends.cumsum(-1) - ends > 0


def _filling(vocab: Vocabulary) -> int:
    """What stands behind the end of a text: padding, or EOS where there is none."""
    found = (vocab.pad_id, vocab.eos_id, vocab.mask_id)
    return next(token for token in found if token is not None)
