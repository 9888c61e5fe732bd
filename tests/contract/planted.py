"""A plugin whose every component has one fault; test_pytest_plugin.py installs and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from attrs import define, evolve, field, frozen
from torch import Tensor

from mdmkit import hookimpl, option
from mdmkit.builtin.denoisers.dit import Dit, DitNetwork
from mdmkit.builtin.mask_patterns import Independent
from mdmkit.builtin.objectives import Autoregressive, MaskedDiffusion
from mdmkit.builtin.samplers import Ancestral
from mdmkit.builtin.schedules import Linear
from mdmkit.builtin.time_samplers import Uniform
from mdmkit.builtin.weightings import Flat
from mdmkit.values import Bound, Measurement

# --- denoisers


@frozen(kw_only=True)
class _Small(Dit):
    width: int = 16
    depth: int = 1
    heads: int = 2
    conditioning_width: int = 8
    network: ClassVar[type[DitNetwork]] = DitNetwork

    def build(self, vocab: Any) -> DitNetwork:
        return self.network(self, vocab.size)


class _WithMemory(DitNetwork):
    """Adds the token that it last saw at a position, before it was masked."""

    def forward(self, tokens: Tensor, **kwargs: Any) -> Tensor:
        memory = getattr(self, "memory", tokens)
        memory = memory if memory.shape == tokens.shape else tokens
        self.memory = torch.where(tokens == 10, memory, tokens)
        return super().forward(tokens, **kwargs) + self.vocab_embed(self.memory)


@frozen(kw_only=True)
class Leaks(_Small):
    """Remembers the clean text."""

    network = _WithMemory


class _Together(DitNetwork):
    def unembed(self, h: Tensor) -> Tensor:
        return super().unembed(h - h.reshape(-1, h.shape[-1]).mean(0))


@frozen(kw_only=True)
class LooksAcross(_Small):
    """Decides positions together."""

    network = _Together


class _LooksAhead(DitNetwork):
    def forward(self, tokens: Tensor, *, attention: Any, **kwargs: Any) -> Tensor:
        return super().forward(tokens, attention=evolve(attention, causal=False), **kwargs)


@frozen(kw_only=True)
class SeesTheFuture(_Small):
    """Attends to later positions though it is told not to."""

    network = _LooksAhead


@hookimpl
def mdmkit_denoisers() -> Mapping[str, type]:
    return {"leaks": Leaks, "looks_across": LooksAcross, "sees_the_future": SeesTheFuture}


# --- schedules and time samplers


@frozen(kw_only=True)
class WrongSign(Linear):
    """Has a rising derivative."""

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@hookimpl
def mdmkit_noise_schedules() -> Mapping[str, type]:
    return {"wrong_sign": WrongSign}


@frozen(kw_only=True)
class NineTenths(Uniform):
    """Forgets a tenth of the mass."""

    def at(self, step: int) -> NineTenths:
        return self

    def density(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 0.9)


@frozen(kw_only=True)
class Falls(Uniform):
    """Has a quantile that falls."""

    def at(self, step: int) -> Falls:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return super().icdf(1 - u)


@frozen(kw_only=True)
class TouchesOne(Uniform):
    """Draws t = 1."""

    def at(self, step: int) -> TouchesOne:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return torch.where(u > 0.999, 1.0, u)


@define
class _Learner:
    """t uniform on [0, end); every validation lowers the end."""

    end: float = 1.0
    keeps: bool = True

    def at(self, step: int) -> Any:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return (u * self.end).clamp(2.0**-64, 1 - 2.0**-53)

    def density(self, t: Tensor) -> Tensor:
        return (t < self.end).to(t.dtype) / self.end

    def validated(self, t: Tensor, nll: Tensor, count: Tensor) -> None:
        self.end *= 0.9

    def state_dict(self) -> dict[str, Any]:
        return {"end": self.end if self.keeps else 1.0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.end = state["end"]


@frozen(kw_only=True)
class Forgets:
    """Does not save what the validations taught it."""

    def build(self, facts: Any) -> _Learner:
        return _Learner(keeps=False)


@frozen(kw_only=True)
class Shares:
    """Builds one live sampler for all runs."""

    one: ClassVar[_Learner] = _Learner()

    def build(self, facts: Any) -> _Learner:
        return self.one


@frozen(kw_only=True)
class Divides(Uniform):
    """Raises."""

    def at(self, step: int) -> Divides:
        return self

    def icdf(self, u: Tensor) -> Tensor:
        return u / (1 // 0)


@frozen(kw_only=True)
class Needs(Uniform):
    """Has an option that must be given, and nobody gives an example."""

    power: float = option(gt=0)


@hookimpl
def mdmkit_time_samplers() -> Mapping[str, type]:
    return {
        "nine_tenths": NineTenths,
        "falls": Falls,
        "touches_one": TouchesOne,
        "forgets": Forgets,
        "shares": Shares,
        "divides": Divides,
        "needs": Needs,
    }


# --- mask patterns and weightings


@frozen(kw_only=True)
class TooMuch(Independent):
    """Masks more than it states, but only later in the run."""

    def mask(self, *, rate: Tensor, step: int, **rest: Any) -> Tensor:
        return super().mask(rate=rate * 0.9 + 0.1 if step else rate, **rest)


@frozen(kw_only=True)
class Remembers(Independent):
    """Masks by the latest step that it was ever asked for."""

    steps: list[int] = field(factory=list, init=False, eq=False, repr=False)

    def mask(self, *, step: int, noise: Tensor, **rest: Any) -> Tensor:
        self.steps.append(step)
        return super().mask(noise=noise.roll(max(self.steps), 1), **rest)


@frozen(kw_only=True)
class OddTwins(Independent):
    """Masks less in the second row of a pair."""

    group: ClassVar[int] = 2
    count_law: ClassVar[str] = "other"

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        return rate ** (1 + member)

    def mask(self, *, rate: Tensor, member: Tensor, **rest: Any) -> Tensor:
        return super().mask(rate=self.rate(rate, member, member), **rest)


@hookimpl
def mdmkit_mask_patterns() -> Mapping[str, type]:
    return {"too_much": TooMuch, "remembers": Remembers, "odd_twins": OddTwins}


@frozen(kw_only=True)
class Negative(Flat):
    """Has weights below zero."""

    def weight(self, *, t: Tensor, **_: Any) -> Tensor:
        return t - 0.1


@hookimpl
def mdmkit_loss_weightings() -> Mapping[str, type]:
    return {"negative": Negative}


# --- objectives and samplers


@define
class _Live:
    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Mean(_Live):
    def loss(self, denoiser: Any, noised: Any) -> Any:
        loss = self.inner.loss(denoiser, noised)
        return loss._replace(total=loss.total / loss.tokens.sum())


class _Miscounts(_Live):
    def bound(self, denoiser: Any, batch: Any, draws: Any) -> Bound:
        bound = self.inner.bound(denoiser, batch, draws)
        return bound._replace(masked=bound.tokens + 1)


class _Open(_Live):
    def bound(self, denoiser: Any, batch: Any, draws: Any) -> Bound:
        def look(tokens: Tensor, *, attention: Any, **kwargs: Any) -> Tensor:
            return denoiser(tokens, attention=evolve(attention, causal=False), **kwargs)

        look.unembed = denoiser.unembed  # type: ignore[attr-defined]
        return self.inner.bound(look, batch, draws)


@frozen(kw_only=True)
class Mean(MaskedDiffusion):
    """Divides the loss by its tokens."""

    def build(self, context: Any) -> Any:
        return _Mean(MaskedDiffusion().build(context))


@frozen(kw_only=True)
class Miscounts(MaskedDiffusion):
    """Says that more was masked than there is."""

    def build(self, context: Any) -> Any:
        return _Miscounts(MaskedDiffusion().build(context))


@frozen(kw_only=True)
class Open(Autoregressive):
    """Looks at the answer."""

    def build(self, context: Any) -> Any:
        return _Open(Autoregressive().build(context))


@hookimpl
def mdmkit_objectives() -> Mapping[str, type]:
    return {"mean": Mean, "miscounts": Miscounts, "open": Open}


@frozen(kw_only=True)
class Overwrites(Ancestral):
    """Writes over the prompt."""

    def generate(self, tokens: Tensor, context: Any) -> Any:
        masked = torch.full_like(tokens, context.vocab.mask_id)
        yield from Ancestral(steps=4).generate(masked, context)


@hookimpl
def mdmkit_samplers() -> Mapping[str, type]:
    return {"overwrites": Overwrites}


# --- surroundings


@define
class _Number:
    provenance: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 0

    def compute(self) -> dict[str, Measurement]:
        return {"x": Measurement(value=1.0, stderr=float("nan"))}


@frozen(kw_only=True)
class NoError:
    """Gives a number without an error."""

    def build(self, context: Any) -> _Number:
        return _Number()


@define
class _ByDocument(_Number):
    context: Any

    def compute(self) -> dict[str, Measurement]:
        blocks = self.context.blocks("test")
        documents = blocks.documents(torch.arange(len(blocks)))
        return {"x": Measurement(value=float(documents.max()), stderr=0.0)}


@frozen(kw_only=True)
class NeedsDocuments:
    """Asks for documents though a block source need not know them."""

    def build(self, context: Any) -> _ByDocument:
        return _ByDocument(context)


@hookimpl
def mdmkit_evaluators() -> Mapping[str, type]:
    return {"no_error": NoError, "needs_documents": NeedsDocuments}


@frozen(kw_only=True)
class Shuffles:
    """Has its documents in another order each time."""

    def documents(self, split: str) -> Iterator[str]:
        return (str(i) for i in torch.randperm(50).tolist())

    def fingerprint(self, split: str) -> str:
        return split

    def describe(self, split: str) -> dict[str, Any]:
        return {}


@hookimpl
def mdmkit_corpora() -> Mapping[str, type]:
    return {"shuffles": Shuffles}


@define
class _Log:
    path: Path

    def resume(self, step: int) -> None: ...

    def log(self, metrics: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(f"{metrics['step']}\n")

    def close(self) -> None: ...


@frozen(kw_only=True)
class KeepsLines:
    """Forgets nothing when a run is resumed."""

    def build(self, run: Any) -> _Log:
        return _Log(run.directory / "steps.txt")


@hookimpl
def mdmkit_trackers() -> Mapping[str, type]:
    return {"keeps_lines": KeepsLines}


def contract_examples(directory: Path) -> Iterator[Any]:
    def read(run: Path) -> list[dict[str, int]]:
        return [{"step": int(line)} for line in (run / "steps.txt").read_text().split()]

    yield KeepsLines(), {"read": read}
