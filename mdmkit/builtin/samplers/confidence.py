"""Sampling in the order of how sure the network is, several masks at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple

from attrs import frozen
from torch import Tensor

from mdmkit.builtin.orders import confidence, margin, negative_entropy
from mdmkit.builtin.samplers.canvas import Canvas
from mdmkit.choosing import (
    Drawn,
    Unmasking,
    measured,
    refuse_options_of_others,
)
from mdmkit.diffusion import TINY, scattered, times_of_counts, uniform_subset
from mdmkit.options import option
from mdmkit.protocols import Prediction, SamplerContext
from mdmkit.values import Generation

Score = Literal["probability", "drawn", "margin", "entropy"]
Rule = Literal["top_k", "threshold", "entropy_bounded"]


class _Scoring(NamedTuple):
    """How a score is made: from log p(token) ``[N, V]``, or of the token that was drawn (None).

    Its level is what the option ``threshold`` means on its scale.
    """

    function: Callable[[Tensor], Tensor] | None
    level: Callable[[float], float]


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


_SCORES: Mapping[Score, _Scoring] = {
    "probability": _Scoring(confidence, _log),
    "drawn": _Scoring(None, _log),
    "margin": _Scoring(margin, float),
    "entropy": _Scoring(negative_entropy, lambda nats: -nats),
}

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "top_k": ("steps", "noise"),
    "threshold": ("threshold",),
    "entropy_bounded": ("gamma",),
}


class _Look(NamedTuple):
    """What a call told about the N masks of a batch.

    Attributes:
        hidden: ``[B, L]`` bool, where they are.
        logits: ``[N, V]``.
        score: ``[B, L]`` float64, −∞ where no mask is.
        entropy: ``[B, L]`` float64 nats, 0 where no mask is; where the rule needs it.
        drawn: tokens for all of them, where the score needs them.
    """

    hidden: Tensor
    logits: Tensor
    score: Tensor
    entropy: Tensor | None
    drawn: Drawn | None


@frozen(kw_only=True)
class Confidence(Unmasking):
    """Lifts the masks that the network is surest of, at each step at least one of a row.

    ``score``, at temperature 1 with nothing cut off: ``probability`` of the likeliest token,
    ``margin`` to the next likeliest, ``entropy`` (the lowest first), or ``drawn``: the probability
    of the token that was drawn, as in MaskGIT (arXiv 2202.04200) and LLaDA's low-confidence
    remasking (arXiv 2502.09992). The first three decide before a token is drawn, so that one token
    a step from a perfect network is exact, in whatever order; with ``drawn`` improbable tokens are
    thrown away, and the text is likelier than the network's.

    ``rule``: ``top_k`` spreads the masks of a row evenly over ``steps``; ``threshold`` lifts all
    whose score reaches it; ``entropy_bounded`` lifts as many, in order of the score, as keep
    Σ H − max H at most ``gamma`` (EB-sampler, arXiv 2505.24857, whose order is ``entropy``): a
    bound on what is lost by drawing them without seeing each other.

    The network is told the time at which the schedule masks a row's share of masks.
    """

    steps: int = option(128, ge=1, doc="top_k: over so many steps; fewer where masks are fewer")
    score: Score = option("probability", doc="probability, drawn, margin or entropy")
    rule: Rule = option("top_k", doc="top_k, threshold or entropy_bounded")
    threshold: float = option(
        0.9, ge=0, doc="threshold: at least this probability or margin, at most this entropy (nats)"
    )
    gamma: float = option(0.1, ge=0, doc="entropy_bounded: nats of entropy but for the largest")
    noise: float = option(
        0.0,
        ge=0,
        doc="top_k: Gumbel noise on the score (of a probability: on its log), times the share of "
        "masks that are left; MaskGIT's choice temperature",
    )
    prediction: ClassVar[Prediction] = "masked"

    def __attrs_post_init__(self) -> None:
        """Refuse options of another rule, and a threshold that no mask reaches."""
        refuse_options_of_others(self, "rule", _OPTIONS)
        if self.threshold > 1 and self.score != "entropy":
            raise ValueError(
                f"threshold: no probability or margin is above 1, got {self.threshold:g}; expected "
                'at most 1 (in nats it is for score = "entropy")'
            )

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        canvas = Canvas(tokens, context, self)
        times = times_of_counts(context.noise_schedule.alpha, tokens.shape[1], context.device)
        first = canvas.hidden.sum(-1)  # [B]
        while not canvas.done:
            self._step(canvas, times, first)  # what it was told is let go before the next call
            yield canvas.state()
        if canvas.step == 0:
            yield canvas.state()

    def _step(self, canvas: Canvas, times: Tensor, first: Tensor) -> None:
        """Ask the network, and lift the masks that it is surest of."""
        rules: Mapping[Rule, Callable[[Canvas, _Look], Tensor]] = {
            "top_k": self._top_k,
            "threshold": self._threshold,
            "entropy_bounded": self._entropy_bounded,
        }
        uniform = canvas.context.uniform
        noise = uniform()  # [B, L]
        look = self._look(canvas, times, noise)
        count = rules[self.rule](canvas, look).clamp(min=1)
        order = -look.score
        if self.noise:
            share = (look.hidden.sum(-1) - count) / first.clamp(min=1)
            gumbel = -(-uniform().clamp(min=TINY).log()).log()
            order = order - self.noise * share[:, None] * gumbel
        lifted = canvas.few_enough(uniform_subset(order, count, look.hidden), order)
        some = lifted[look.hidden]  # [N], which of the masks that were seen
        if look.drawn is None:
            canvas.draw(lifted, look.logits[some], noise)
        else:
            canvas.put(lifted, look.drawn.tokens[some], look.drawn.log_p[some])

    def _look(self, canvas: Canvas, times: Tensor, noise: Tensor) -> _Look:
        """Call the network and score every mask."""
        hidden, function = canvas.hidden, _SCORES[self.score].function
        logits = canvas.look(times[hidden.sum(-1)], hidden)
        drawn, functions = None, [] if function is None else [function]
        if self.rule == "entropy_bounded" and function is not negative_entropy:
            functions.append(negative_entropy)
        found = [] if not functions else measured(functions, logits, canvas.mask_id)
        if function is None:
            drawn = self.choose(logits, noise[hidden], canvas.mask_id)
        score = found[0] if drawn is None else drawn.log_p
        entropy = scattered(-found[-1], hidden) if self.rule == "entropy_bounded" else None
        return _Look(hidden, logits, _placed(score, hidden), entropy, drawn)

    def _top_k(self, canvas: Canvas, look: _Look) -> Tensor:
        left = max(self.steps - canvas.step, 1)
        return -(-look.hidden.sum(-1) // left)  # rounded up

    def _threshold(self, _: Canvas, look: _Look) -> Tensor:
        level = _SCORES[self.score].level(self.threshold)
        return (look.hidden & (look.score >= level)).sum(-1)

    def _entropy_bounded(self, _: Canvas, look: _Look) -> Tensor:
        assert look.entropy is not None
        best_first = look.score.argsort(dim=-1, descending=True, stable=True)
        hidden = look.hidden.gather(-1, best_first)
        entropies = look.entropy.gather(-1, best_first)
        # it never falls along the order, so those that keep the bound are a prefix
        excess = entropies.cumsum(-1) - entropies.cummax(-1).values
        return (hidden & (excess <= self.gamma)).sum(-1)


def _placed(values: Tensor, where: Tensor) -> Tensor:
    """``[N]`` in their places ``where [B, L]``, −∞ elsewhere."""
    return scattered(values, where).masked_fill(~where, -math.inf)
