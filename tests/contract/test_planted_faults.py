"""Components with one fault each: a check that lets one through proves nothing."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest
import torch
from attrs import define, evolve, frozen
from torch import Tensor, nn

from mdmkit.builtin.corpora.text import Text
from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.denoisers.dit import DitNetwork
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.samplers import Ancestral
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Bell, Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.options import option
from mdmkit.testing import CHECKS, ContractError, check_options
from mdmkit.values import Attention, Bound, Generation, Measurement

FAULTS: list[Any] = []


def fault(hook: str, clause: str, **settings: Any) -> Any:
    """Plant a class: its check must fail, and with this clause."""

    def plant(cls: type) -> type:
        FAULTS.append(pytest.param(hook, cls, clause, settings, id=cls.__name__))
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


# --- mask patterns


@fault("mdmkit_mask_patterns", "masked with probability rate")
@frozen(kw_only=True)
class MasksTooMuch(Independent):
    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        return super().mask(rate * 0.9 + 0.1, noise, member, maskable)


@fault("mdmkit_mask_patterns", "masked with probability rate")
@frozen(kw_only=True)
class NeverMasksTheFirst(Independent):
    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        mask = super().mask(rate, noise, member, maskable)
        mask[:, 0] = False
        return mask


@fault("mdmkit_mask_patterns", "subset of maskable")
@frozen(kw_only=True)
class MasksPadding(Independent):
    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        return noise < rate[:, None]


@fault("mdmkit_mask_patterns", "is a function of its arguments")
@frozen(kw_only=True)
class DrawsItsOwn(Independent):
    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        return (torch.rand(noise.shape) < rate[:, None]) & maskable


@fault("mdmkit_mask_patterns", "does not depend on the other rows")
@frozen(kw_only=True)
class LooksAtTheFirstRow(Independent):
    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        return (noise < rate[:1, None]) & maskable


@fault("mdmkit_mask_patterns", "count_law binomial")
@frozen(kw_only=True)
class AllOrNothing(Independent):
    """The right rate, one coin for the whole row."""

    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        return (noise[:, :1] < rate[:, None]) & maskable


@fault("mdmkit_mask_patterns", "every_context")
@frozen(kw_only=True)
class OneRun(Independent):
    """A run of positions, cyclic: no set with two gaps."""

    count_law: ClassVar[str] = "other"

    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
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


# --- denoisers


@frozen(kw_only=True)
class FaultyDit(Dit):
    width: int = 16
    depth: int = 1
    heads: int = 2
    conditioning_width: int = 8
    network: ClassVar[type[DitNetwork]]

    def build(self, vocab: Any) -> DitNetwork:
        return self.network(self, vocab.size)


class LooksAhead(DitNetwork):
    def forward(self, tokens: Tensor, *, attention: Attention, **kwargs: Any) -> Tensor:
        return super().forward(tokens, attention=evolve(attention, causal=False), **kwargs)


@fault("mdmkit_denoisers", "position i sees positions <= i only")
@frozen(kw_only=True)
class SeesTheFuture(FaultyDit):
    network = LooksAhead


class MixesRows(DitNetwork):
    def forward(self, tokens: Tensor, **kwargs: Any) -> Tensor:
        h = super().forward(tokens, **kwargs)
        return h - h.mean(0)


@fault("mdmkit_denoisers", "rows do not influence each other")
@frozen(kw_only=True)
class NormalizesOverRows(FaultyDit):
    network = MixesRows


class IgnoresPadding(DitNetwork):
    def forward(self, tokens: Tensor, *, attention: Attention, **kwargs: Any) -> Tensor:
        return super().forward(tokens, attention=evolve(attention, padding=None), **kwargs)


@fault("mdmkit_denoisers", "nobody sees padding")
@frozen(kw_only=True)
class SeesPadding(FaultyDit):
    network = IgnoresPadding


class IgnoresDocuments(DitNetwork):
    def forward(self, tokens: Tensor, *, attention: Attention, **kwargs: Any) -> Tensor:
        return super().forward(tokens, attention=evolve(attention, document_ids=None), **kwargs)


@fault("mdmkit_denoisers", "documents do not see each other")
@frozen(kw_only=True)
class SeesOtherDocuments(FaultyDit):
    network = IgnoresDocuments


class Jitters(DitNetwork):
    def forward(self, tokens: Tensor, **kwargs: Any) -> Tensor:
        h = super().forward(tokens, **kwargs)
        return nn.functional.dropout(h, 0.1, training=True)


@fault("mdmkit_denoisers", "is a function in eval mode")
@frozen(kw_only=True)
class DropsOutInEval(FaultyDit):
    network = Jitters


@fault("mdmkit_denoisers", "t is looked at")
@frozen(kw_only=True)
class OnlySaysT(FaultyDit):
    network = DitNetwork

    @property
    def supports(self) -> frozenset[str]:
        return frozenset({"t"})


# --- objectives


@define
class _Faulty:
    """An objective that does what another does, but for what a subclass changes."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def plant_objective(clause: str, base: type = MaskedDiffusion) -> Any:
    def plant(live: type) -> type:
        cls = type(live.__name__, (base,), {"build": lambda _, c: live(base().build(c))})
        return fault("mdmkit_objectives", clause)(cls)

    return plant


@plant_objective("never a mean")
class MeanLoss(_Faulty):
    def loss(self, denoiser: Any, noised: Any) -> Any:
        loss = self.inner.loss(denoiser, noised)
        return loss._replace(total=loss.total / loss.tokens.sum())


@plant_objective("positions in the loss are masked in the input")
class Leaks(_Faulty):
    def corrupt(self, batch: Any, draws: Any) -> Any:
        return evolve(self.inner.corrupt(batch, draws), inputs=batch.tokens)


@plant_objective("everything random comes from draws")
class OwnNoise(_Faulty):
    def corrupt(self, batch: Any, draws: Any) -> Any:
        noised = self.inner.corrupt(batch, draws)
        keep = torch.rand(noised.in_loss.shape) < 0.5
        inputs = torch.where(keep, noised.inputs, batch.tokens)
        return evolve(noised, in_loss=noised.in_loss & keep, inputs=inputs)


@plant_objective("n·ln(V − 1)")
class HalfABound(_Faulty):
    def bound(self, denoiser: Any, batch: Any, draws: Any) -> Bound:
        bound = self.inner.bound(denoiser, batch, draws)
        return bound._replace(nats=bound.nats * 0.97)


@plant_objective("does not depend on its micro-batch")
class CountsRowsFromZero(_Faulty):
    def corrupt(self, batch: Any, draws: Any) -> Any:
        here = evolve(draws, rows=torch.arange(len(draws.rows)))
        return self.inner.corrupt(batch, here)


@plant_objective("not in the input at positions <= i", base=Autoregressive)
class ForgetsToShift(_Faulty):
    def corrupt(self, batch: Any, draws: Any) -> Any:
        return evolve(self.inner.corrupt(batch, draws), inputs=batch.tokens)


@plant_objective("sums to 1", base=Autoregressive)
class BoundSeesTheFuture(_Faulty):
    def bound(self, denoiser: Any, batch: Any, draws: Any) -> Bound:
        def open_eyes(tokens: Tensor, *, attention: Attention, **kwargs: Any) -> Tensor:
            return denoiser(tokens, attention=evolve(attention, causal=False), **kwargs)

        open_eyes.unembed = denoiser.unembed  # type: ignore[attr-defined]
        return self.inner.bound(open_eyes, batch, draws)


# --- samplers


@fault("mdmkit_samplers", "visible at the start never changes")
@frozen(kw_only=True)
class Overwrites(Ancestral):
    steps: int = 4

    def generate(self, tokens: Tensor, context: Any) -> Any:
        masked = torch.full_like(tokens, context.vocab.mask_id)
        yield from Ancestral(steps=4).generate(masked, context)


@fault("mdmkit_samplers", "holds no mask")
@frozen(kw_only=True)
class StopsEarly(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        yield next(Ancestral(steps=4).generate(tokens, context))


@fault("mdmkit_samplers", "the same text whatever the batch")
@frozen(kw_only=True)
class SharesNoise(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        shared = evolve(context, uniform=lambda: context.uniform().flip(0))
        yield from Ancestral(steps=4).generate(tokens, shared)


@fault("mdmkit_samplers", "counts the calls")
@frozen(kw_only=True)
class Miscounts(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        for state in Ancestral(steps=4).generate(tokens, context):
            yield evolve(state, network_evaluations=state.step + 7)


@fault("mdmkit_samplers", "holds no mask")
@frozen(kw_only=True)
class SaysMask:
    prediction: ClassVar[str] = "masked"

    def generate(self, tokens: Tensor, context: Any) -> Any:
        best = context.logits(tokens, None, Attention()).argmax(-1)
        hidden = tokens == context.vocab.mask_id
        yield Generation(tokens=torch.where(hidden, best, tokens), step=1, network_evaluations=1)


# --- surroundings


@define
class _Numbers:
    stderr: float
    provenance: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 0

    def compute(self) -> dict[str, Measurement]:
        return {"x": Measurement(value=1.0, stderr=self.stderr)}


@fault("mdmkit_evaluators", "comes with its standard error")
@frozen(kw_only=True)
class NoError:
    def build(self, context: Any) -> _Numbers:
        return _Numbers(float("nan"))


@fault("mdmkit_evaluators", "len is equal on every rank")
@frozen(kw_only=True)
class UnevenWork:
    def build(self, context: Any) -> Any:
        return range(context.rank)


@fault("mdmkit_corpora", "the order never changes", splits=("train",))
@frozen(kw_only=True)
class Shuffles(Text):
    def documents(self, split: str) -> Any:
        return (str(i) for i in torch.randperm(50).tolist())

    def fingerprint(self, split: str) -> str:
        return split

    def describe(self, split: str) -> dict[str, Any]:
        return {}


@fault("mdmkit_corpora", "the fingerprint differs", splits=("train", "test"))
@frozen(kw_only=True)
class OneFingerprint(Text):
    def documents(self, split: str) -> Any:
        return iter([split])

    def fingerprint(self, split: str) -> str:
        return "same"

    def describe(self, split: str) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("hook", "cls", "clause", "settings"), FAULTS)
def test_a_planted_fault_is_found(
    hook: str, cls: type, clause: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ContractError) as caught:
        CHECKS[hook](cls(), **settings)
    assert clause in caught.value.clause
    assert caught.value.found


@pytest.mark.parametrize(
    ("hook", "sound"),
    [
        ("mdmkit_denoisers", FaultyDit),
        ("mdmkit_objectives", MaskedDiffusion),
        ("mdmkit_objectives", Autoregressive),
    ],
)
def test_the_frames_that_faults_are_planted_in_are_sound(hook: str, sound: type) -> None:
    if hook == "mdmkit_denoisers":
        sound = type("Sound", (FaultyDit,), {"network": DitNetwork})
        CHECKS[hook](sound())
    else:
        live = type("Same", (_Faulty,), {})
        frame = type("Frame", (sound,), {"build": lambda _, c: live(sound().build(c))})
        CHECKS[hook](frame())


def test_a_tracker_that_forgets_nothing_is_found(tmp_path: Any) -> None:
    @frozen(kw_only=True)
    class Hoarder:
        def build(self, run: Any) -> Any:
            return self

        def resume(self, step: int) -> None: ...
        def log(self, metrics: Any) -> None:
            lines.append(metrics)

        def close(self) -> None: ...

    lines: list[Any] = []
    with pytest.raises(ContractError, match="are forgotten"):
        CHECKS["mdmkit_trackers"](Hoarder(), tmp_path, read=lambda _: lines)


# --- options


@define(kw_only=True)
class NotFrozen:
    """Can be changed."""

    width: float = option(1.0)


@frozen
class Positional:
    """Takes its option by position."""

    width: float = option(1.0)


@frozen(kw_only=True)
class HoldsAFunction:
    """Holds what no recipe can."""

    act: Any = option(None)


@frozen(kw_only=True)
class BadDefault:
    """Has a default out of its bounds."""

    width: float = option(-1.0, gt=0)


@frozen(kw_only=True)
class Undocumented:
    width: float = option(1.0)


@frozen(kw_only=True)
class NamedUse:
    """Has an option with the name of the key that chooses it."""

    use: str = option("x")


@frozen(kw_only=True)
class DefaultOfAnotherType:
    """Has a default that its own type does not allow."""

    width: int = option(0.5)


class Plain:
    """Has no attrs fields."""


@pytest.mark.parametrize(
    ("cls", "clause"),
    [
        (NotFrozen, "frozen"),
        (Positional, "keyword-only"),
        (HoldsAFunction, "a type that a recipe can hold"),
        (BadDefault, "the defaults are allowed values"),
        (Undocumented, "docstring"),
        (NamedUse, "`use`"),
        (DefaultOfAnotherType, "survive being written"),
        (Plain, "attrs class"),
    ],
)
def test_bad_options_are_found(cls: type, clause: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_options(cls)
    assert clause in caught.value.clause


def test_options_with_names_unknown_at_run_time_are_found() -> None:
    cls = attrs.make_class("Lost", {"when": attrs.field(type="NoSuchType")}, frozen=True)
    cls.__doc__ = "Refers to a type that nobody imported."
    with pytest.raises(ContractError, match="known at run time"):
        check_options(cls)


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
