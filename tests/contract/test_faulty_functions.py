"""Schedules, time samplers, patterns, weightings with a fault each, which the checks must find."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.testing import CHECKS, ContractError

FAULTS: list[Any] = []


def fault(hook: str, clause: str) -> Any:
    """Plant a class: its check must fail, and with this clause."""

    def plant(cls: type) -> type:
        FAULTS.append(pytest.param(hook, cls, clause, id=cls.__name__))
        return cls

    return plant


# --- noise schedules


@fault("mdmkit_noise_schedules", "dalpha is negative")
@frozen(kw_only=True)
class DalphaOfTheWrongSign(Linear):
    def dalpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@fault("mdmkit_noise_schedules", "dalpha is the derivative")
@frozen(kw_only=True)
class DalphaOfAnotherSchedule(Linear):
    def dalpha(self, t: Tensor) -> Tensor:
        return -2 * t


@fault("mdmkit_noise_schedules", "alpha falls from 1")
@frozen(kw_only=True)
class SilentlyTruncated(Linear):
    eps: float = 1e-3


@fault("mdmkit_noise_schedules", "alpha falls strictly")
@frozen(kw_only=True)
class Plateau:
    def alpha(self, t: Tensor) -> Tensor:
        return torch.where(t < 0.5, 1 - t, 0.5) - (t - 0.75).clamp(min=0) * 2

    def dalpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


# --- time samplers


@fault("mdmkit_time_samplers", "the density integrates to 1")
@frozen(kw_only=True)
class NineTenths(Uniform):
    def at(self, step: int) -> Uniform:
        return self

    def density(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 0.9)


@fault("mdmkit_time_samplers", "icdf increases")
@frozen(kw_only=True)
class FallingQuantile(Uniform):
    def at(self, step: int) -> Uniform:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return super().icdf(1 - u)


@fault("mdmkit_time_samplers", "icdf is the inverse")
@frozen(kw_only=True)
class QuantileOfAnotherWidth(Bell):
    def at(self, step: int) -> Bell:
        return self

    def density(self, t: Tensor) -> Tensor:
        return Bell(width=0.21).density(t)


@fault("mdmkit_time_samplers", "icdf(u) lies inside")
@frozen(kw_only=True)
class TouchesOne(Uniform):
    def at(self, step: int) -> Uniform:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return torch.where(u > 0.999, 1.0, u)


@fault("mdmkit_time_samplers", "icdf maps [B] to [B] in float64")
@frozen(kw_only=True)
class SinglePrecision(Uniform):
    def at(self, step: int) -> Uniform:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return u.float().clamp(1e-7, 1 - 1e-7)


@fault("mdmkit_time_samplers", "a sampler with observe is Stateful")
@frozen(kw_only=True)
class ObservesWithoutState(Uniform):
    def observe(self, t: Tensor, nll: Tensor, count: Tensor) -> None: ...


class _AfterAWarmUp:
    """A time sampler that is uniform for ten steps; then `_late` says what it is."""

    def __init__(self) -> None:
        self.seen = torch.zeros((), dtype=torch.float64)

    def at(self, step: int) -> Any:
        return Uniform() if step < 10 else self._late()

    def _late(self) -> Any:
        return Bell(centre=float(1 / (2 + self.seen)))

    def observe(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        self.seen += 1

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"].clone()


@fault("mdmkit_time_samplers", "icdf increases")
@frozen(kw_only=True)
class FallsAfterAWarmUp:
    class Live(_AfterAWarmUp):
        def _late(self) -> Any:
            return FallsEverywhere()

    def build(self, facts: Any) -> Any:
        return self.Live()


class FallsEverywhere(Uniform):
    def icdf(self, u: Tensor) -> Tensor:
        return (1 - super().icdf(u)).clamp(1e-9, 1 - 1e-9)


@fault("mdmkit_time_samplers", "a saved and loaded state goes on the same")
@frozen(kw_only=True)
class ForgetsWhatShowsLate:
    class Live(_AfterAWarmUp):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            pass

    def build(self, facts: Any) -> Any:
        return self.Live()


# --- mask patterns


@fault("mdmkit_mask_patterns", "masked with probability rate")
@frozen(kw_only=True)
class MasksTooMuch(Independent):
    def mask(self, *, rate: Tensor, **rest: Any) -> Tensor:
        return super().mask(rate=rate * 0.9 + 0.1, **rest)


@fault("mdmkit_mask_patterns", "masked with probability rate")
@frozen(kw_only=True)
class NeverMasksTheFirst(Independent):
    def mask(self, **given: Any) -> Tensor:
        mask = super().mask(**given)
        mask[:, 0] = False
        return mask


@fault("mdmkit_mask_patterns", "subset of maskable")
@frozen(kw_only=True)
class MasksPadding(Independent):
    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        return noise < rate[:, None]


@fault("mdmkit_mask_patterns", "is a function of its arguments")
@frozen(kw_only=True)
class DrawsItsOwn(Independent):
    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        return (torch.rand(noise.shape) < rate[:, None]) & maskable


@fault("mdmkit_mask_patterns", "does not depend on the other rows")
@frozen(kw_only=True)
class LooksAtTheFirstRow(Independent):
    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        return (noise < rate[:1, None]) & maskable


@fault("mdmkit_mask_patterns", "count_law binomial")
@frozen(kw_only=True)
class AllOrNothing(Independent):
    """The right rate, one coin for the whole row."""

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        return (noise[:, :1] < rate[:, None]) & maskable


@fault("mdmkit_mask_patterns", "every_context")
@frozen(kw_only=True)
class OneRun(Independent):
    """A run of positions, cyclic: no set with two gaps."""

    count_law: ClassVar[str] = "other"

    def mask(self, *, rate: Tensor, noise: Tensor, maskable: Tensor, **_: Any) -> Tensor:
        length = noise.shape[-1]
        start = (noise[:, :1] * length).floor()
        place = (torch.arange(length) - start) % length
        count = (rate[:, None] * length + noise[:, :1] * length - start).floor()
        return (place < count) & maskable


@fault("mdmkit_mask_patterns", "count_law ceiling")
@frozen(kw_only=True)
class SaysCeiling(Independent):
    count_law: ClassVar[str] = "ceiling"


# --- loss weightings


@fault("mdmkit_loss_weightings", "finite and positive")
@frozen(kw_only=True)
class NotPositive(Flat):
    def weight(self, *, t: Tensor, **_: Any) -> Tensor:
        return t - 0.1


@fault("mdmkit_loss_weightings", "[B] or [B, L] float64")
@frozen(kw_only=True)
class OneNumber(Flat):
    def weight(self, *, t: Tensor, **_: Any) -> Tensor:
        return t.mean()


@fault("mdmkit_loss_weightings", "does not depend on the other rows")
@frozen(kw_only=True)
class RelativeToTheBatch(Flat):
    def weight(self, *, t: Tensor, **_: Any) -> Tensor:
        return t / t[0]


@fault("mdmkit_loss_weightings", "normalizer is of")
@frozen(kw_only=True)
class UnknownNormalizer(Flat):
    normalizer: str = "batch"


@pytest.mark.parametrize(("hook", "cls", "clause"), FAULTS)
def test_a_planted_fault_is_found(hook: str, cls: type, clause: str) -> None:
    with pytest.raises(ContractError) as caught:
        CHECKS[hook](cls())
    assert clause in caught.value.clause
    assert caught.value.found


def test_a_contract_error_is_an_assertion_error_that_names_clause_and_numbers() -> None:
    with pytest.raises(AssertionError) as caught:
        CHECKS["mdmkit_noise_schedules"](DalphaOfTheWrongSign())
    error = caught.value
    assert isinstance(error, ContractError)
    assert "DalphaOfTheWrongSign" in error.component
    assert (
        str(error) == f"{error.component}: the contract says: {error.clause}; found: {error.found}"
    )
    assert "value 1 at 0.001 (999 of 999 places)" in error.found
