"""The network of a run, and the one way to call it.

The whole computation on a denoiser (backbone, head, loss) runs inside the forward of one root
module. That is what gets sharded: FSDP gathers the parameters of the head as well, and sees every
tensor that leaves.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from mdmkit.draws import derive_seed
from mdmkit.errors import RecipeError
from mdmkit.protocols import Denoiser, ObjectiveContext, RunFacts

if TYPE_CHECKING:
    from mdmkit.protocols import NoiseSchedule, Objective, TimeSampler
    from mdmkit.recipe import Recipe
    from mdmkit.values import Vocabulary

T = TypeVar("T")

_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


class Root(nn.Module):
    """The module that is sharded: its forward runs a function of the denoiser."""

    def __init__(self, denoiser: nn.Module) -> None:
        """Hold `denoiser`, a `mdmkit.protocols.Denoiser`."""
        super().__init__()
        self.denoiser = denoiser

    def forward(self, function: Callable[[Denoiser], T]) -> T:
        """``function(denoiser)``, which returns a tensor or a tuple of tensors."""
        return function(cast("Denoiser", self.denoiser))


@frozen(eq=False)
class InferenceCall:
    """Runs a function of the denoiser: eval mode, no gradient, the recipe's precision."""

    root: nn.Module
    device: torch.device
    precision: str

    def __call__(self, function: Callable[[Denoiser], T]) -> T:
        """``function(denoiser)``; whether the network is in training mode is put back after."""
        training = self.root.training
        self.root.eval()
        try:
            with torch.no_grad(), autocast(self.device, self.precision):
                return cast("T", self.root(function))
        finally:
            self.root.train(training)


@frozen(eq=False)
class LiveGradient:
    """A `mdmkit.protocols.GradientCall` on the network of one process."""

    root: nn.Module
    device: torch.device
    precision: str

    def __call__(self, function: Callable[[Denoiser], Tensor]) -> dict[str, Tensor]:
        """The gradient of a scalar function by parameter; the network is left as it was."""
        training = self.root.training
        named = {
            name.removeprefix("denoiser."): parameter
            for name, parameter in self.root.named_parameters()
        }
        self.root.eval()
        try:
            with torch.enable_grad(), autocast(self.device, self.precision):
                value = self.root(function)
            found = torch.autograd.grad(value, list(named.values()), materialize_grads=True)
        finally:
            self.root.train(training)
        return {name: part.float() for name, part in zip(named, found, strict=True)}


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The autocast of a precision: nothing for ``fp32``, else bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision != "fp32")


@contextlib.contextmanager
def seeded(device: torch.device, *parts: int | str) -> Iterator[None]:
    """torch's global generators seeded by `parts` inside, and as they were after."""
    with own_generators(device):
        torch.manual_seed(derive_seed(*parts))
        yield


def own_generators(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """torch's global generators, of the CPU and of `device`, are as they were after the body."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def build_root(
    recipe: Recipe,
    vocab: Vocabulary,
    device: torch.device,
    precision: str | None = None,
    *,
    initialize: bool = False,
) -> Root:
    """The network of `recipe` with its seeded initial weights, on `device`.

    They are float32, but bfloat16 for the precision ``bf16_weights`` (the recipe's, unless another
    is given); buffers stay as they are. With `initialize` a denoiser that takes its first weights
    from elsewhere (`mdmkit.protocols.DenoiserOptions`) gets them.
    """
    with seeded(torch.device("cpu"), recipe.run.seed, "weights"):
        denoiser = recipe.denoiser.build(vocab)
        if initialize and hasattr(recipe.denoiser, "initialize"):
            recipe.denoiser.initialize(denoiser)
    if (precision or recipe.train.precision) == "bf16_weights":
        for parameter in denoiser.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
    return Root(denoiser).to(device)


def sketch_root(recipe: Recipe, vocab: Vocabulary) -> Root | None:
    """The network of `recipe` on the meta device: its names and shapes, and no memory for weights.

    None for a denoiser that cannot be built there.
    """
    try:
        with own_generators(torch.device("cpu")), torch.device("meta"):
            return Root(recipe.denoiser.build(vocab))
    except (RuntimeError, TypeError, ValueError):
        return None


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        RecipeError: for any other name, and for a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not _DEVICE.fullmatch(name):
        raise RecipeError(f'device: expected auto, cpu, cuda or cuda:1, got "{name}"')
    device = torch.device(name)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= there:
        raise RecipeError(
            f'device: "{name}" is not there: torch finds {there or "no"} CUDA '
            f"{'device' if there == 1 else 'devices'}; choose another, or leave it to auto"
        )
    return device


@frozen(kw_only=True)
class Live:
    """The components of a recipe brought to life.

    Attributes:
        objective: what is trained.
        noise_schedule: the schedule it is trained with.
        time_sampler: the live one, whose optional ``observe`` the loop calls.
        training: what the objective was built from.
        stateful: components with state, by table name, to be checkpointed.
    """

    objective: Objective
    noise_schedule: NoiseSchedule
    time_sampler: TimeSampler
    training: ObjectiveContext
    stateful: dict[str, Any]


def bring_to_life(recipe: Recipe, facts: RunFacts) -> Live:
    """Build every component that training and evaluation share.

    Args:
        recipe: with its options objects.
        facts: what a component's ``build(facts)`` may ask for.
    """
    live = {"noise_schedule": facts.live(recipe.noise_schedule)}
    facts = evolve(facts, noise_schedule=live["noise_schedule"])
    for table in ("time_sampler", "mask_pattern", "loss_weighting"):
        live[table] = facts.live(getattr(recipe, table))
    context = ObjectiveContext(vocab=facts.vocab, length=facts.length, facts=facts, **live)
    live["objective"] = recipe.objective.build(context)
    stateful = {
        table: component for table, component in live.items() if hasattr(component, "state_dict")
    }
    return Live(
        objective=live["objective"],
        noise_schedule=live["noise_schedule"],
        time_sampler=live["time_sampler"],
        training=context,
        stateful=stateful,
    )
