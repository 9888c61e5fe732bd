"""The contracts of noise schedules and time samplers, by numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from mdmkit.diffusion import TINY
from mdmkit.protocols import Density, NoiseSchedule, RunFacts, TimeSampler
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import live, run_facts

TOLERANCE = 2e-3
"""How far a numerical integral may be off: jumps in a density cost the quadrature this much."""
_NODES = 8


def check_noise_schedule(
    schedule: NoiseSchedule | Any,
    *,
    ends: tuple[float, float] = (1.0, 0.0),
    facts: RunFacts | None = None,
) -> None:
    """Check ``alpha`` and ``dalpha``.

    Args:
        schedule: the component, or options with ``build(facts)``.
        ends: alpha at t = 0 and t = 1, as the schedule's docstring states them.
        facts: for ``build``; made up if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("noise schedule", schedule)
    schedule = live(schedule, facts)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    _check_elementwise(contract, "alpha", schedule.alpha, t, ("float64", "float32"))
    # at the very ends a derivative may be infinite
    _check_elementwise(contract, "dalpha", schedule.dalpha, t[1:-1], ("float64", "float32"))
    alpha, dalpha = schedule.alpha(t), schedule.dalpha(t)
    for place, expected in zip((0, -1), ends, strict=True):
        found = float(alpha[place])
        contract.require(
            abs(found - expected) < 1e-9,
            f"alpha falls from {ends[0]:g} at t = 0 to {ends[1]:g} at t = 1",
            f"alpha({t[place]:g}) = {found:.12g}",
        )
    _require_everywhere(contract, "alpha falls strictly", alpha.diff() < 0, t[1:], alpha[1:])
    inside = slice(1, -1)
    _require_everywhere(
        contract, "dalpha is negative inside (0, 1)", dalpha[inside] < 0, t[inside], dalpha[inside]
    )
    step = 1e-5
    middle = t[10:-10]
    quotient = (schedule.alpha(middle + step) - schedule.alpha(middle - step)) / (2 * step)
    off = schedule.dalpha(middle) - quotient
    _require_everywhere(
        contract,
        "dalpha is the derivative of alpha",
        off.abs() <= 1e-6 + 1e-4 * quotient.abs(),
        middle,
        off,
        "dalpha minus the difference quotient",
    )


def check_time_sampler(
    sampler: TimeSampler | Any,
    *,
    steps: Iterable[int] = (0, 1, 1000),
    tolerance: float = TOLERANCE,
    facts: RunFacts | None = None,
) -> None:
    """Check the densities at some steps, and ``observe`` and ``validated`` where there are any.

    Args:
        sampler: the component, or options with ``build(facts)``.
        steps: optimizer steps at which to look.
        tolerance: how far integrals of the density may be off.
        facts: for ``build``; made up if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract, options = Contract.of("time sampler", sampler), sampler
    sampler = live(options, facts)
    for step in steps:
        _check_density(contract, sampler.at(step), tolerance)
    if hasattr(sampler, "observe") or hasattr(sampler, "validated"):
        _check_learning(contract, options, sampler, tolerance, facts)


def _check_density(contract: Contract, density: Density, tolerance: float) -> None:
    inner = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    tails = torch.logspace(-15, -5, 11, dtype=torch.float64)
    extremes = torch.tensor([TINY, 1 - 2.0**-53], dtype=torch.float64)
    u = torch.cat([extremes[:1], tails, inner, 1 - tails.flip(0), extremes[1:]])

    _check_elementwise(contract, "icdf", density.icdf, u, ("float64",))
    t = density.icdf(u)
    _require_everywhere(contract, "icdf(u) lies inside (0, 1)", (t > 0) & (t < 1), u, t, "icdf")
    rises = torch.where((u[1:] > 1e-4) & (u[1:] < 1 - 1e-4), t.diff() > 0, t.diff() >= 0)
    _require_everywhere(contract, "icdf increases", rises, u[1:], t.diff(), "its increase")

    inner_t = density.icdf(inner)
    _check_elementwise(contract, "density", density.density, inner_t, ("float64",))
    edges = torch.cat([t, torch.linspace(0, 1, 1001, dtype=torch.float64)])
    edges = torch.unique(edges)
    nodes, masses = _integrate(density, edges)
    q = density.density(nodes)
    _require_everywhere(contract, "the density is not negative", q >= 0, nodes, q, "density")
    q = density.density(inner_t)
    clause = "the density is positive at the times that are drawn"
    _require_everywhere(contract, clause, q > 0, inner_t, q, "density")
    total = float(masses.sum())
    contract.require(
        abs(total - 1) <= tolerance,
        "the density integrates to 1 over (0, 1)",
        f"an integral of {total:.6f}",
    )
    cumulative = torch.cat([masses.new_zeros(1), masses.cumsum(0)])
    reached = cumulative[torch.searchsorted(edges, t)]
    _require_everywhere(
        contract,
        "icdf is the inverse of the distribution function",
        (reached - u).abs() <= tolerance,
        u,
        reached,
        "the mass of the density below icdf(u)",
    )


def _integrate(density: Density, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre between the edges: the nodes ``[N]`` and the mass of each interval."""
    points, weights = _gauss_legendre()
    width = edges.diff()[:, None]
    nodes = (edges[:-1, None] + width * points).clamp(TINY, 1 - 2.0**-53)
    values = density.density(nodes.flatten()).view_as(nodes)
    return nodes.flatten(), (values * weights * width).sum(-1)


def _gauss_legendre() -> tuple[Tensor, Tensor]:
    """Points and weights on (0, 1), from the eigenvalues of the Jacobi matrix (Golub-Welsch)."""
    k = torch.arange(1, _NODES, dtype=torch.float64)
    off = k / (4 * k**2 - 1).sqrt()
    points, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return (points + 1) / 2, vectors[0] ** 2


def _check_learning(
    contract: Contract,
    options: Any,
    sampler: TimeSampler,
    tolerance: float,
    facts: RunFacts | None,
) -> None:
    """A sampler that adapts keeps its contract, and its state can be saved and put back."""
    for does, has in itertools.product(("observe", "validated"), ("state_dict", "load_state_dict")):
        contract.require(
            hasattr(sampler, has) or not hasattr(sampler, does),
            f"a sampler with {does} is Stateful",
            f"it lacks {has}",
        )
    facts, learner = facts or run_facts(), cast("Any", sampler)
    u, late = _middles(facts.global_batch_size), 10_000  # past a warm-up
    first = live(options, facts).at(0).icdf(u)
    for step in range(3):
        if hasattr(sampler, "observe"):
            _tell(contract, "observe", learner.observe, sampler.at(step).icdf(u), facts.length)
            _check_density(contract, sampler.at(step + 1), tolerance)
        if hasattr(sampler, "validated"):
            _tell(contract, "validated", learner.validated, _middles(96), facts.length)
            _check_density(contract, sampler.at(step + 1), tolerance)
        _check_density(contract, sampler.at(late), tolerance)
    other = live(options, facts)
    contract.require(
        torch.equal(other.at(0).icdf(u), first),
        "what one live sampler learns stays its own",
        "another one of the same options begins with other quantiles",
    )
    other.load_state_dict(learner.state_dict())
    for step in (3, late):
        contract.require(
            torch.equal(other.at(step).icdf(u), sampler.at(step).icdf(u)),
            "a saved and loaded state goes on the same",
            "other quantiles after load_state_dict(state_dict())",
        )


def _middles(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _tell(
    contract: Contract, name: str, learn: Callable[..., None], t: Tensor, length: int
) -> None:
    """One round of statistics: about 1 + 3t nats a masked token, and some scatter."""
    count = (t * length).ceil()
    nll = count * (1 + 3 * t) * (1 + 0.2 * torch.cos(40 * t))
    given = (t, nll, count)
    copies = [part.clone() for part in given]
    learn(*given)
    kept = all(torch.equal(part, copy) for part, copy in zip(given, copies, strict=True))
    contract.require(kept, f"{name} leaves its arguments alone", "an argument was changed")


def _check_elementwise(
    contract: Contract,
    name: str,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    dtypes: Iterable[str],
) -> None:
    """``[B] -> [B]``, in the dtype given, finite, one number at a time, its argument left alone."""
    exact = None
    for dtype in dtypes:
        argument = x.to(getattr(torch, dtype))
        before = argument.clone()
        value = function(argument)
        contract.require(
            value.shape == x.shape and value.dtype == argument.dtype,
            f"{name} maps [B] to [B] in {dtype}",
            f"{list(x.shape)} {dtype} -> {list(value.shape)} {value.dtype}",
        )
        contract.require(
            torch.equal(argument, before), f"{name} leaves its argument alone", "it was changed"
        )
        _require_everywhere(contract, f"{name} is finite", value.isfinite(), argument, value)
        contract.require(
            torch.equal(function(argument.clone()), value),
            f"{name} is a function",
            "another value for the same argument",
        )
        flipped = function(argument.flip(0)).flip(0)
        clause = f"{name} of one number does not depend on the others"
        close = torch.isclose(flipped, value, rtol=1e-6, atol=1e2 * torch.finfo(value.dtype).eps)
        _require_everywhere(contract, clause, close, argument, flipped - value)
        exact = value if exact is None else exact
        clause = f"{name} in {dtype} agrees with float64"
        close = torch.isclose(value.double(), exact, rtol=1e-3, atol=1e-4)
        _require_everywhere(contract, clause, close, argument, value)


def _require_everywhere(
    contract: Contract, clause: str, holds: Tensor, at: Tensor, values: Tensor, name: str = "value"
) -> None:
    """Require `holds` at every entry; the message gives the first place where it does not."""

    def found() -> str:
        place = int((~holds).nonzero()[0])
        return (
            f"{name} {float(values[place]):.9g} at {float(at[place]):.9g} "
            f"({int((~holds).sum())} of {len(holds)} places)"
        )

    contract.require(bool(holds.all()), clause, found)
