"""Sampling that takes tokens back: the remasking samplers of ReMDM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.samplers.ancestral import lift_chance
from mdmkit.builtin.samplers.canvas import Canvas, behind_eos
from mdmkit.choosing import Unmasking, refuse_options_of_others
from mdmkit.diffusion import time_at_mask_rate
from mdmkit.options import option
from mdmkit.protocols import NoiseSchedule, Prediction, SamplerContext
from mdmkit.values import Generation

Strategy = Literal["cap", "rescale", "conf", "loop"]

_ETA: Mapping[Strategy, float] = {"cap": 0.008, "rescale": 0.015, "conf": 1.0, "loop": 0.02}
"""What ReMDM's scripts use for 1,024 steps on 1,024 tokens; ``conf`` has no eta there."""
_OPTIONS: Mapping[str, tuple[str, ...]] = {"loop": ("t_on", "t_off", "alpha_on")}


@frozen(kw_only=True)
class _Step:
    """A step from t to s.

    Attributes:
        t: the schedule's time, float64.
        alpha_t, alpha_s: what survives, at its ends.
        sigma: the probability with which a token is masked again; for ``conf`` of all together.
        last: whether all masks are lifted.
    """

    t: Tensor
    alpha_t: float
    alpha_s: float
    sigma: float
    last: bool


@frozen(kw_only=True)
class Remask(Unmasking):
    """Ancestral steps that also mask generated tokens again (ReMDM, arXiv 2503.00307).

    From t to s a generated token is masked with probability sigma_t, and a mask is lifted with
    (alpha_s − (1 − sigma_t)·alpha_t)/(1 − alpha_t), so that the expected share of masks remains
    that of the schedule for every sigma_t up to sigma_max = min(1, (1 − alpha_s)/alpha_t). A
    network that errs may so correct itself; given tokens never change.

    ``strategy``: ``cap``: sigma_t = min(eta, sigma_max). ``rescale``: eta·sigma_max. ``conf``:
    eta·sigma_max shared out among a row's generated tokens by the softmax of −p, the probability
    of each when it was drawn; masks are lifted as if sigma were 0, as ReMDM's code has it, so
    more of them than the schedule's are left until the last step. ``loop``: alpha goes to
    ``alpha_on`` while t falls from 1 to ``t_on``, stays while tokens are masked (sigma_t as for
    ``cap``) and lifted until ``t_off``, and then goes to its end.

    A token is masked again about eta·steps times, so eta belongs to a number of steps.

    With ``eos = "stop"`` what was generated behind the first generated EOS is filled up at the
    last step, since before it the EOS may be masked again; no calls are saved.
    """

    steps: int = option(128, ge=1, doc="equal steps of t; the last lifts every mask left")
    strategy: Strategy = option("cap", doc="how sigma is chosen: cap, rescale, conf or loop")
    eta: float | None = option(
        None,
        ge=0,
        le=1,
        doc="how much is masked again; unset: cap 0.008, rescale 0.015, conf 1, loop 0.02",
    )
    t_on: float = option(0.55, gt=0, lt=1, doc="loop: begins at this t")
    t_off: float = option(0.05, gt=0, lt=1, doc="loop: ends at this t, below t_on")
    alpha_on: float = option(0.9, gt=0, lt=1, doc="loop: what is kept visible in it")
    prediction: ClassVar[Prediction] = "masked"

    def __attrs_post_init__(self) -> None:
        """Refuse a loop without length, and one that is not asked for."""
        refuse_options_of_others(self, "strategy", _OPTIONS)
        if self.t_off >= self.t_on:
            raise ValueError(
                f"t_off must be below t_on: got t_on = {self.t_on:g} and t_off = {self.t_off:g}"
            )

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``; see `mdmkit.protocols.Sampler`."""
        canvas = Canvas(tokens, context, evolve(self, eos="keep"))
        steps = self._steps(context.noise_schedule)
        wanted = 1 if canvas.done else self.steps
        while canvas.step < wanted or not canvas.done:
            # masks that min_steps kept past the last step go on with it
            now = steps[min(canvas.step, self.steps - 1)]
            order, noise = context.uniform(), context.uniform()  # [B, L]
            hidden = canvas.hidden
            again = ~hidden & ~canvas.given & (order < self._sigma(canvas, now))
            lifted = hidden & (order < self._chance(now))
            canvas.lift(now.t, canvas.few_enough(lifted, order), noise)
            canvas.mask(again)
            if self.eos == "stop" and canvas.step + 1 >= wanted and canvas.done:
                over = behind_eos(canvas.tokens, ~canvas.given, context.vocab)
                canvas.fill(over & ~canvas.given)
            yield canvas.state()

    def _steps(self, schedule: NoiseSchedule) -> list[_Step]:
        """Every step from t = 1 to 0."""
        clock = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        looping = self.strategy == "loop"
        times = self._looped(clock, schedule) if looping else clock
        alphas, steps = schedule.alpha(times).tolist(), []
        for i, t in enumerate(clock[:-1].tolist()):
            alpha_t, alpha_s = alphas[i], alphas[i + 1]
            last = i + 1 == self.steps
            most = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
            resting = last or (looping and not self.t_off < t <= self.t_on)
            steps.append(
                _Step(
                    t=times[i],
                    alpha_t=alpha_t,
                    alpha_s=alpha_s,
                    sigma=0.0 if resting else self._sigma_of(most),
                    last=last,
                )
            )
        return steps

    def _looped(self, clock: Tensor, schedule: NoiseSchedule) -> Tensor:
        """The schedule's time by the sampler's: it stands still in the loop."""
        rate = torch.tensor([1 - self.alpha_on], dtype=torch.float64)
        held = time_at_mask_rate(schedule.alpha, rate)
        before = held + (1 - held) * (clock - self.t_on) / (1 - self.t_on)
        after = held * clock / self.t_off
        return torch.where(clock > self.t_on, before, torch.minimum(after, held))

    def _sigma_of(self, most: float) -> float:
        eta = _ETA[self.strategy] if self.eta is None else self.eta
        ways = {
            "cap": min(eta, most),
            "rescale": eta * most,
            "conf": eta * most,
            "loop": min(eta, most),
        }
        return ways[self.strategy]

    def _sigma(self, canvas: Canvas, step: _Step) -> Tensor | float:
        """With which probability a generated token is masked: ``[B, L]``, or one for all."""
        if self.strategy != "conf":
            return step.sigma
        there = ~canvas.hidden & ~canvas.given
        sureness = (-canvas.log_p.exp()).masked_fill(~there, -torch.inf)
        return step.sigma * sureness.softmax(-1).nan_to_num()  # no token, no share

    def _chance(self, step: _Step) -> float:
        """With which probability a mask is lifted."""
        if step.last:
            return 1.0
        sigma = 0.0 if self.strategy == "conf" else step.sigma
        return lift_chance(step.alpha_t, step.alpha_s, sigma)
