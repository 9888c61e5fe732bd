"""The contract of loss weightings, by numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, get_args

import torch

from mdmkit.protocols import LossWeighting, Normalizer, RunFacts
from mdmkit.testing.errors import Contract
from mdmkit.testing.facts import GlobalGenerator, live


def check_loss_weighting(
    weighting: LossWeighting | Any,
    *,
    steps: Iterable[int] = (0, 1000),
    facts: RunFacts | None = None,
) -> None:
    """Check ``weight`` and ``normalizer``.

    Args:
        weighting: the component, or options with ``build(facts)``.
        steps: optimizer steps at which to look.
        facts: for ``build``; made up if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("loss weighting", weighting)
    weighting = live(weighting, facts)
    known = get_args(Normalizer)
    contract.require(
        weighting.normalizer in known, f"normalizer is of {known}", repr(weighting.normalizer)
    )
    for step, (alpha, dalpha) in itertools.product(steps, _SCHEDULES):
        _check_weight(contract, weighting, _arguments(alpha, dalpha, step))


_SCHEDULES = (
    (lambda t: 1 - t, lambda t: -torch.ones_like(t)),
    (lambda t: 1 - t**2, lambda t: -2 * t),
)


def _arguments(alpha: Any, dalpha: Any, step: int) -> dict[str, Any]:
    """What an objective would pass for 64 rows of 16 positions, 12 of them maskable."""
    source = torch.Generator().manual_seed(step)
    rows, length, maskable = 64, 16, 12
    t = torch.linspace(1e-4, 1 - 1e-4, rows, dtype=torch.float64)
    mask = torch.rand(rows, length, generator=source) < (1 - alpha(t))[:, None]
    mask[:, maskable:] = False
    mask[0], mask[-1, :maskable] = False, True
    return {
        "t": t,
        "alpha_t": alpha(t),
        "dalpha_t": dalpha(t),
        "density": 0.01 + 6 * t * (1 - t),
        "mask": mask,
        "mask_count": mask.sum(-1).double(),
        "token_count": torch.full_like(t, maskable),
        "step": step,
    }


def _check_weight(contract: Contract, weighting: LossWeighting, given: dict[str, Any]) -> None:
    mask, t = given["mask"], given["t"]
    copies = {name: value.clone() for name, value in given.items() if name != "step"}
    generator = GlobalGenerator.now()
    weight = weighting.weight(**given)
    contract.require(
        weight.shape in (t.shape, mask.shape) and weight.dtype == torch.float64,
        "weight returns [B] or [B, L] float64",
        lambda: f"{list(weight.shape)} {weight.dtype} for [B, L] = {list(mask.shape)}",
    )
    everywhere = weight.reshape(len(t), -1).expand(mask.shape)
    bad = mask & ~(everywhere.isfinite() & (everywhere > 0))

    def found() -> str:
        row, position = bad.nonzero()[0].tolist()
        value = float(everywhere[row, position])
        return f"{value:.6g} at t = {float(t[row]):.6g}, {int(bad.sum())} masked tokens in all"

    contract.require(
        not bad.any(), "weights are finite and positive wherever a token is masked", found
    )
    same = torch.equal(weighting.weight(**given), weight) and generator.untouched()
    clause = "the weight is a function of its arguments"
    contract.require(same, clause, "other weights, or torch's own generator in use")
    kept = all(torch.equal(given[name], old) for name, old in copies.items())
    contract.require(kept, "weight leaves its arguments alone", "an argument was changed")
    flipped = {n: v if n == "step" else v.flip(0) for n, v in given.items()}
    contract.require(
        torch.allclose(weighting.weight(**flipped).flip(0), weight, rtol=1e-9),
        "a row's weight does not depend on the other rows",
        "other weights after the rows were put in another order",
    )
