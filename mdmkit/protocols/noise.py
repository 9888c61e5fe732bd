"""Contracts of what decides the masks and their weights: schedule, time, pattern, weighting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import frozen

from mdmkit.values import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

CountLaw = Literal["binomial", "ceiling", "other"]
Normalizer = Literal["tokens", "masked", "weights", "sequence"]


@frozen(kw_only=True)
class RunFacts:
    """Facts of a run that a component may ask for: the argument of ``build(facts)``.

    A schedule, time sampler, mask pattern or loss weighting that needs none of them has no
    ``build`` and is used as it is.

    Attributes:
        vocab: the token ids.
        length: L, tokens a block.
        steps: optimizer steps of the whole run.
        global_batch_size: G, rows a step.
        learning_rate: ``learning_rate(step)``: the fraction of its peak, in [0, 1].
        token_counts: ``token_counts() -> [V]`` float64: how often each id occurs in training.
        noise_schedule: the live schedule; None while it is itself being built. Ask `schedule`.
    """

    vocab: Vocabulary
    length: int
    steps: int
    global_batch_size: int
    learning_rate: Callable[[int], float]
    token_counts: Callable[[], Tensor]
    noise_schedule: NoiseSchedule | None = None

    def schedule(self) -> NoiseSchedule:
        """The noise schedule of the run, live.

        Raises:
            LookupError: where the schedule itself is what is being built.
        """
        if self.noise_schedule is None:
            raise LookupError("a noise schedule is built without knowing itself")
        return self.noise_schedule

    def live(self, component: Any) -> Any:
        """The live form of a component, such as one that is inside of another.

        ``component.build(self)`` where it has ``build``, else the component itself.
        """
        return component.build(self) if hasattr(component, "build") else component


class NoiseSchedule(Protocol):
    """How much survives: ``alpha_t`` falls from 1 at t = 0 to (about) 0 at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability of a token, ``[B] -> [B]``."""

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative in t, ``[B] -> [B]``, negative inside (0, 1)."""


class Density(Protocol):
    """A probability density on (0, 1) that can be sampled through its quantile function."""

    def icdf(self, u: Tensor) -> Tensor:
        """Quantile: u in (0, 1) to t in (0, 1), ``[B] -> [B]`` float64, increasing."""

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``; integrates to 1 over (0, 1)."""


class TimeSampler(Protocol):
    """The density of the training time at each step.

    May also have ``observe(t, nll, count)``: called after each step with one entry per row of
    the *global* batch (``[G]`` float64 each, all-reduced): its time, its summed cross-entropy in
    nats, and how many tokens that sum has. And ``validated(t, nll, count)``: called with the same
    after each validation but that of the untrained network, one entry per masked block; there the
    mask ratios are uniform whatever the sampler, and the same at every validation.
    """

    def at(self, step: int) -> Density:
        """The density for optimizer step `step` (0-based)."""


class MaskPattern(Protocol):
    """Which positions are masked, given how many should be.

    Attributes:
        count_law: how the number of masked tokens follows from the rate r of a row with n
            maskable tokens: ``binomial``: Bin(n, r). ``ceiling``: ⌈r·n⌉, the subset uniform.
            ``other``: anything else.
        group: how many consecutive rows of the global batch share one sequence and one row of
            noise (1: none; 2: twins such as complementary masks).
        every_context: whether every set of visible tokens has positive probability (else some
            conditionals are never trained).
    """

    @property
    def group(self) -> int:
        """Rows that share one sequence and one row of noise."""

    @property
    def every_context(self) -> bool:
        """Whether every set of visible tokens stays possible."""

    @property
    def count_law(self) -> CountLaw:
        """How the number of masked tokens follows from the rate."""

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        """The marginal mask rate of a row that was asked for `rate`.

        Args:
            rate: 1 − alpha_t, ``[B]`` in (0, 1).
            member: ``[B]`` int64 in [0, group): which twin the row is.
            size: ``[B]``, how many maskable tokens the row has.

        Returns:
            ``[B]``: P(position is masked); `rate` itself unless the pattern says otherwise. Twins
            (``group`` > 1) keep lengths: a twin's rate is `rate` or 1 − `rate`, so that the
            density of the one is that of the other.
        """

    def mask(
        self,
        *,
        rate: Tensor,
        noise: Tensor,
        row_noise: Tensor,
        member: Tensor,
        maskable: Tensor,
        step: int,
    ) -> Tensor:
        """Choose the masked positions.

        Args:
            rate: 1 − alpha_t, ``[B]`` in (0, 1).
            noise: ``[B, L]`` float32, uniform on [0, 1), equal for the rows of a group.
            row_noise: ``[B]`` float32, one more uniform number a row, equal in a group.
            member: ``[B]`` int64 in [0, group).
            maskable: ``[B, L]`` bool; the result is a subset of it.
            step: the optimizer step, for patterns that change over training.

        Returns:
            ``[B, L]`` bool, True where masked.
        """


class LossWeighting(Protocol):
    """The weight of a masked token's cross-entropy, and what the weighted sum is divided by.

    Attributes:
        normalizer: ``tokens``: all scored tokens of the global batch (B·L). ``masked``: its
            masked tokens. ``weights``: the summed weights of its masked tokens. ``sequence``:
            each row by its own masked count (an empty row counts 0), then by the number of rows.
    """

    @property
    def normalizer(self) -> Normalizer:
        """What the weighted sum is divided by."""

    def weight(
        self,
        *,
        t: Tensor,
        alpha_t: Tensor,
        dalpha_t: Tensor,
        density: Tensor,
        mask: Tensor,
        mask_count: Tensor,
        token_count: Tensor,
        step: int,
    ) -> Tensor:
        """Weights, finite and positive wherever something is masked.

        Args:
            t, alpha_t, dalpha_t: ``[B]`` float64, the time and the schedule there.
            density: q(t), ``[B]`` float64, the density t was drawn from.
            mask: ``[B, L]`` bool, the masked positions.
            mask_count, token_count: ``[B]`` float64, masked and maskable tokens of each row.
            step: the optimizer step, for weights that change over training.

        Returns:
            ``[B]`` or ``[B, L]`` float64.
        """
