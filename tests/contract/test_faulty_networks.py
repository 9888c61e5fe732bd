"""Denoisers, objectives and samplers with one fault each, which the checks must find."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from attrs import define, evolve, frozen
from torch import Tensor, nn

from mdmkit.builtin.denoisers import Dit
from mdmkit.builtin.denoisers.cache import KeyValueCache
from mdmkit.builtin.denoisers.dit import DitNetwork
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.samplers import Ancestral, AutoregressiveSampler, Cached
from mdmkit.testing import CHECKS, ContractError
from mdmkit.values import Attention, Bound, Generation

FAULTS: list[Any] = []


def fault(hook: str, clause: str) -> Any:
    """Plant a class: its check must fail, and with this clause."""

    def plant(cls: type) -> type:
        FAULTS.append(pytest.param(hook, cls, clause, id=cls.__name__))
        return cls

    return plant


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


@fault("mdmkit_denoisers", "resolved gives options of the same class")
@frozen(kw_only=True)
class ResolvesToAnother(Dit):
    def resolved(self) -> Dit:
        return Dit(width=16, depth=1, heads=2, conditioning_width=8)


@fault("mdmkit_denoisers", "what is resolved is left as it is")
@frozen(kw_only=True)
class ResolvesFurther(FaultyDit):
    network = DitNetwork

    def resolved(self) -> Any:
        return evolve(self, depth=self.depth + 1)


class SaysItKeeps(DitNetwork):
    new_cache = None


@fault("mdmkit_denoisers", "the network has new_cache")
@frozen(kw_only=True)
class OnlySaysCache(FaultyDit):
    network = SaysItKeeps


class FromZero(KeyValueCache):
    def positions(self, tokens: Tensor) -> Tensor:
        return torch.arange(tokens.shape[1])[None]


class StartsAgain(DitNetwork):
    def new_cache(self, rows: int, length: int) -> Any:
        return FromZero.of(rows, length, len(self.blocks))


@fault("mdmkit_denoisers", "with a cache the logits are those of the whole text")
@frozen(kw_only=True)
class ForgetsPositions(FaultyDit):
    network = StartsAgain


class Halves(DitNetwork):
    def forward(self, tokens: Tensor, *, attention: Attention, **kwargs: Any) -> Tensor:
        h = super().forward(tokens, attention=attention, **kwargs)
        rough = attention.cache is not None and torch.is_autocast_enabled("cpu")
        return h / 2 if rough else h


@fault("mdmkit_denoisers", "bf16 logits are near those of the whole text")
@frozen(kw_only=True)
class CachesRoughly(FaultyDit):
    network = Halves


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


@plant_objective("nll is 0 where nothing is masked")
class NllEverywhere(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        return self.inner.nll(denoiser, batch, torch.ones_like(mask))


@plant_objective("does not look at masked tokens")
class NllSeesWhatIsMasked(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        rows = [
            self.inner.nll(denoiser, batch, mask & (torch.arange(mask.shape[1]) == i))
            for i in range(mask.shape[1])
        ]
        return torch.stack(rows).sum(0)


@plant_objective("sums to 1")
class NllOfHalf(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        return self.inner.nll(denoiser, batch, mask) / 2


@plant_objective("adds up to the bound")
class NllUnderAFullMask(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        return self.inner.nll(denoiser, batch, batch.scored()) * mask


@plant_objective("does not look at masked tokens (exact: at later ones)", base=Autoregressive)
class NllSeesTheFuture(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        own = self.inner.nll(denoiser, batch, mask)
        return own + mask * 0.01 * (batch.tokens[:, -1:] == 1)


@plant_objective("adds up to the bound", base=Autoregressive)
class NllOfNothing(_Faulty):
    def nll(self, denoiser: Any, batch: Any, mask: Tensor) -> Tensor:
        return mask.double() * math.log(self.inner.context.vocab.size - 1)


# --- samplers


@fault("mdmkit_samplers", "visible at the start never changes")
@frozen(kw_only=True)
class Overwrites(Ancestral):
    steps: int = 4

    def generate(self, tokens: Tensor, context: Any) -> Any:
        masked = torch.full_like(tokens, context.vocab.mask_id)
        yield from Ancestral(steps=4).generate(masked, context)


@fault("mdmkit_samplers", "log_p is 0 at tokens visible from the start")
@frozen(kw_only=True)
class ScoresWhatWasGiven(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        for state in super().generate(tokens, context):
            yield evolve(state, log_p=torch.full_like(state.log_p, -1.0))


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


@fault("mdmkit_samplers", "step counts them from 1")
@frozen(kw_only=True)
class SkipsStates(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        states = Ancestral(steps=4).generate(tokens, context)
        yield from (state for state in states if state.step % 2 == 0)


@fault("mdmkit_samplers", "go through context.logits_of")
@frozen(kw_only=True)
class ShowsSomeRows(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        blind = evolve(context, some_rows=None)
        yield from Cached(steps=4).generate(tokens, blind)


@fault("mdmkit_samplers", "shown context.length tokens at most")
@frozen(kw_only=True)
class ShowsTooMuch(Ancestral):
    steps: int = 4
    any_length: ClassVar[bool] = True


@fault("mdmkit_samplers", "shown context.length tokens at most")
@frozen(kw_only=True)
class ShowsSeven(AutoregressiveSampler):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        yield from super().generate(tokens, evolve(context, length=7))


@fault("mdmkit_samplers", "up to each state")
@frozen(kw_only=True)
class CountsAtTheEnd(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        states = list(Ancestral(steps=4).generate(tokens, context))
        yield from states


@fault("mdmkit_samplers", "log_p is 0 where a mask still is")
@frozen(kw_only=True)
class ScoresMasks(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        for state in Ancestral(steps=4).generate(tokens, context):
            early = (state.tokens == context.vocab.mask_id).double()
            yield evolve(state, log_p=state.log_p - early)


def seen_through(change: Any) -> Any:
    """A sampler's calls, changed on their way to the network."""

    def through(context: Any) -> Any:
        def logits(xt: Tensor, t: Any, attention: Attention, at: Any = None) -> Tensor:
            return context.logits(*change(context, xt, t, attention), at)

        return evolve(context, logits=logits)

    return through


@fault("mdmkit_samplers", "t is in [0, 1]")
@frozen(kw_only=True)
class TellsPercent(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        percent = seen_through(lambda _, xt, t, attention: (xt, t * 100, attention))
        yield from super().generate(tokens, percent(context))


@fault("mdmkit_samplers", "t [B] of floats")
@frozen(kw_only=True)
class TellsWholeNumbers(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        whole = seen_through(lambda _, xt, t, attention: (xt, t.long(), attention))
        yield from super().generate(tokens, whole(context))


@fault("mdmkit_samplers", "shown the rows that it was asked for")
@frozen(kw_only=True)
class AsksForOtherRows(Ancestral):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        def others(rows: Tensor) -> Any:
            return context.logits_of((rows + 1) % len(tokens))

        yield from Cached(steps=4).generate(tokens, evolve(context, some_rows=others))


@fault("mdmkit_samplers", "a cache changes no text")
@frozen(kw_only=True)
class ForgetsItsCache(AutoregressiveSampler):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        def empty(context: Any, xt: Tensor, t: Any, attention: Attention) -> Any:
            return xt, t, evolve(attention, cache=context.new_cache(len(xt), 12))

        yield from super().generate(tokens, seen_through(empty)(context))


@fault("mdmkit_samplers", "no more than it has room for")
@frozen(kw_only=True)
class MakesTooLittleRoom(AutoregressiveSampler):
    def generate(self, tokens: Tensor, context: Any) -> Any:
        def small(rows: int, length: int) -> Any:
            return context.new_cache(rows, length - 1)

        yield from super().generate(tokens, evolve(context, new_cache=small))


@pytest.mark.parametrize(("hook", "cls", "clause"), FAULTS)
def test_a_planted_fault_is_found(hook: str, cls: type, clause: str) -> None:
    with pytest.raises(ContractError) as caught:
        CHECKS[hook](cls())
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
