"""Times chosen for little variance of the loss: an adaptive density, and an adaptive interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.time_samplers.closed_form import Uniform, Window, refuse_empty
from mdmkit.builtin.time_samplers.online import OnlineDensity, OnlineSums, interpolate, mean_of
from mdmkit.diffusion import nelbo_weight
from mdmkit.options import option
from mdmkit.protocols import Density, RunFacts

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

_FEWEST = 32  # draws in an interval from which its variance is told, to a quarter


@frozen(kw_only=True)
class LossAdaptive:
    """q(t) ∝ sqrt(E[loss | t]² + Var[loss | t]): P-POTS (arXiv 2511.18159), estimated online.

    The loss of a row is what it contributes to the NELBO at its time: its summed cross-entropy
    over t·L, the weight 1/t being that of the linear schedule. Of all densities this q gives
    the least variance of the estimate loss/q of a row, which is unbiased whatever q is: use it
    with the `elbo` weighting, which divides by q. Without that division it changes the objective,
    and with `estimator = "rao_blackwell"` the loss of a row is another one than is measured here.

    The mean square of a row's cross-entropy (rows without a mask count 0) is estimated in equal
    bins of t over about the last `memory` steps; its root is interpolated between the bins,
    from 0 at t = 0, and then divided by t. The order matters: the mean of the square of the
    loss itself is dominated by the rare smallest times. Under twins of a mask pattern, q is the
    density that the first twin is drawn from, and both twins are observed. Bins are of t and not
    of quantiles, so that they keep their meaning while q changes.
    """

    bins: int = option(32, ge=2, le=1024, doc="equal bins of t in which the loss is measured")
    memory: float = option(200.0, ge=1, doc="steps after which an observation counts 1/e")
    warmup: int = option(200, ge=0, doc="first steps, with uniform t")
    floor: float = option(0.1, gt=0, le=1, doc="share of the mass that is spread uniformly")

    def check(self, recipe: Recipe) -> Iterator[str]:
        """Object to a noise schedule that is not linear."""
        yield from needs_linear(recipe)

    def build(self, facts: RunFacts) -> LiveLossAdaptive:  # noqa: ARG002 - it needs none
        """The live sampler."""
        return LiveLossAdaptive(self)


class LiveLossAdaptive(OnlineDensity):
    """`LossAdaptive` with what it has observed."""

    def __init__(self, options: LossAdaptive) -> None:
        """Start with nothing observed."""
        sums = OnlineSums(bins=options.bins, memory=options.memory, columns=3)
        super().__init__(sums, before=Uniform(), warmup=options.warmup, floor=options.floor)

    def _columns(self, t: Tensor, nll: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002
        return torch.stack([torch.ones_like(t), t, nll**2], dim=-1)

    def _shape(self, t: Tensor) -> Tensor | None:
        rows, t_rows, squares = self.sums.values.unbind(-1)
        means, _ = mean_of(torch.stack([t_rows, squares], dim=-1), rows)
        if not (means[:, 1] > 0).any():
            return None
        nothing = means.new_zeros(1)  # is masked, and paid, at t = 0
        places = torch.cat([nothing, means[:, 0]])
        roots = torch.cat([nothing, means[:, 1].sqrt()])
        return interpolate(t, places, roots) / t


@frozen(kw_only=True)
class Clipped:
    """t uniform on an interval that every validation chooses anew (BD3-LM, arXiv 2503.09573).

    What is minimised is the variance, over validation blocks and over t uniform on the interval,
    of a row's contribution to the NELBO: its summed cross-entropy over t·L. It is estimated from
    the validation's own draws, whose mask ratios are uniform on (0, 1): an interval is judged by
    the draws that fall inside. (Their number of masks is exact, so that the noise of independent
    masks is not in it.) The candidates are all intervals of at least `min_width` with ends at
    multiples of 1/`grid`; one with fewer than 32 draws is passed over, and among equals the
    widest is taken, then the lowest. Without `min_width` the narrowest would mostly win.

    The paper's weighting is `inverse_t`. Mask ratios outside of the interval are not trained, so
    no weight makes the loss the whole NELBO.
    """

    low: float = option(0.0, ge=0, lt=1, doc="the smallest t before the first validation")
    high: float = option(1.0, gt=0, le=1, doc="the largest t before it; above low")
    min_width: float = option(0.5, gt=0, le=1, doc="of the intervals that are tried")
    grid: int = option(20, ge=1, le=200, doc="their ends are multiples of 1/grid")

    def __attrs_post_init__(self) -> None:
        """Refuse an interval without width."""
        refuse_empty(self.low, self.high)

    def check(self, recipe: Recipe) -> Iterator[str]:
        """Object to a noise schedule that is not linear."""
        yield from needs_linear(recipe)

    def build(self, facts: RunFacts) -> LiveClipped:
        """The live sampler."""
        return LiveClipped(self, facts.length)


class LiveClipped:
    """`Clipped` with the interval of the last validation."""

    def __init__(self, options: Clipped, length: int) -> None:
        """Start with the interval of the options; `length` is L, tokens a row."""
        self._options, self._length = options, length
        self._interval = torch.tensor([options.low, options.high], dtype=torch.float64)

    def at(self, step: int) -> Density:  # noqa: ARG002 - it changes with validations
        """Uniform on the present interval."""
        low, high = self._interval.tolist()
        return Window(low=low, high=high)

    def validated(self, t: Tensor, nll: Tensor, count: Tensor) -> None:  # noqa: ARG002
        """Choose the interval again from a validation's draws, ``[N]`` each."""
        loss = nll / (t * self._length)
        usable = loss.isfinite() & (t > 0) & (t <= 1)
        best = self._best(t[usable], loss[usable].double())
        if best is not None:
            self._interval = torch.tensor(best, dtype=torch.float64)

    def _best(self, t: Tensor, loss: Tensor) -> tuple[float, float] | None:
        """The candidate of least variance, or None where none has enough draws."""
        grid = self._options.grid
        t, order = t.sort()
        centred = loss[order] - loss.mean()
        edges = torch.arange(grid + 1, dtype=torch.float64) / grid
        zero = centred.new_zeros(1)
        sums, squares = (torch.cat([zero, x.cumsum(0)]) for x in (centred, centred.square()))
        first = torch.searchsorted(t, edges)  # draws below each edge, and up to it
        after = torch.searchsorted(t, edges, right=True)
        count = (after[None, :] - first[:, None]).double()  # [low, high]
        total = sums[after][None, :] - sums[first][:, None]
        square = squares[after][None, :] - squares[first][:, None]
        variance = (square - total.square() / count.clamp(min=1)) / (count - 1).clamp(min=1)
        width = edges[None, :] - edges[:, None]
        wide = width >= max(self._options.min_width - 1e-9, 0.5 / grid)
        usable = (wide & (count >= _FEWEST)).nonzero().tolist()
        scored = [
            (round(float(variance[i, j]), 12), -float(width[i, j]), i / grid, j / grid)
            for i, j in usable
        ]
        return min(scored)[2:] if scored else None

    def state_dict(self) -> dict[str, Any]:
        """The interval."""
        return {"interval": self._interval.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the interval of a `state_dict`."""
        self._interval = state["interval"].clone()


def needs_linear(recipe: Recipe) -> Iterator[str]:
    """Object where the NELBO's weight is not 1/t, as under the linear schedule it is.

    A schedule that is built from facts of the run cannot be asked yet; it is let through.
    """
    schedule = recipe.noise_schedule
    if not hasattr(schedule, "alpha"):
        return
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    weight = nelbo_weight(schedule.alpha(t), schedule.dalpha(t))
    if not torch.allclose(weight * t, torch.ones_like(t), rtol=1e-6):
        yield (
            "measures the loss by the weight 1/t of the linear noise schedule, and this recipe's "
            'weight is another one; set noise_schedule.use = "linear"'
        )
