"""What a recipe costs on so many GPUs, and whether it fits: everything `mdmkit plan` says."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import attrs
from attrs import Factory, frozen
from torch import nn

from mdmkit.costs.activations import StepMemory
from mdmkit.costs.dry import Dry, dry_objective
from mdmkit.costs.flops import Flops, flops_per_token
from mdmkit.costs.gpus import Gpu
from mdmkit.costs.memory import Memory, measured_step, memory_of, step_key
from mdmkit.costs.meta import build_on_meta
from mdmkit.costs.parameters import Parameters, count_parameters
from mdmkit.costs.setup import Setup, setup_of
from mdmkit.costs.shares import Shares, expected_shares

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe

USABLE = 0.9
"""Share of a GPU's memory that a plan may fill: CUDA's context, the workspaces of kernels and of
collectives, and the gaps between tensors take the rest."""

MFU = 0.35
"""Model FLOPs over peak, where none is given. A cautious figure: 46% is reported for PaLM 540B
(arXiv 2204.02311, Table 3) after much tuning, and small networks do worse than large ones."""


@frozen(kw_only=True)
class Time:
    """How long and how dear.

    Attributes:
        step: seconds of an optimizer step.
        tokens_per_second: of all GPUs.
        days: of all steps, validation and checkpoints left out.
        gpu_hours: of all GPUs.
        cost: GPU-hours times their price; None without a price.
    """

    step: float
    tokens_per_second: float
    days: float
    gpu_hours: float
    cost: float | None


@frozen(kw_only=True)
class Traffic:
    """Bytes that a GPU sends in an optimizer step (and receives as many), by ring collectives.

    Attributes:
        gathered: of weights.
        scattered: of gradients that are summed over the shards of a copy.
        reduced: of gradients that are summed over copies.
    """

    gathered: int
    scattered: int
    reduced: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.gathered + self.scattered + self.reduced


@frozen(kw_only=True, slots=False, eq=False)
class Planner:
    """A recipe's network and objective on the meta device, and the GPUs it is to run on.

    Attributes:
        recipe: to be run.
        vocab_size: V.
        gpu: what each GPU can do.
        setup: how the recipe runs on them.
        mfu: model FLOPs over peak.
        price: of a GPU-hour, in any currency, or None.
        steps: what micro-batches need, as far as it was counted; shared by what is `changed`.
    """

    recipe: Recipe
    vocab_size: int
    gpu: Gpu
    setup: Setup
    mfu: float = MFU
    price: float | None = None
    steps: dict[tuple[object, ...], StepMemory] = Factory(dict)

    @cached_property
    def network(self) -> nn.Module:
        """The denoiser without its numbers."""
        return cast("nn.Module", build_on_meta(self.recipe, self.vocab_size))

    @cached_property
    def dry(self) -> Dry:
        """The objective."""
        return dry_objective(self.recipe, self.vocab_size)

    @cached_property
    def parameters(self) -> Parameters:
        """How many, and where."""
        return count_parameters(self.network, length=self.recipe.data.length)

    @cached_property
    def shares(self) -> Shares:
        """Which share of the positions is in the loss."""
        return expected_shares(self.recipe)

    @cached_property
    def flops(self) -> Flops:
        """FLOPs a token."""
        return flops_per_token(
            self.network,
            length=self.recipe.data.length,
            vocab_size=self.vocab_size,
            scored_share=self.shares.scored,
            causal_share=self.shares.causal,
            width=self.shares.width,
        )

    @cached_property
    def memory(self) -> Memory:
        """Of one GPU."""
        key = step_key(self.setup)
        if key not in self.steps:
            self.steps[key] = measured_step(self.network, self.dry, self.setup)
        return memory_of(self.network, self.dry, self.setup, self.steps[key])

    @property
    def usable(self) -> int:
        """Bytes of a GPU that may be filled."""
        return int(USABLE * self.gpu.memory)

    @property
    def fits(self) -> bool:
        """Whether a GPU has the memory."""
        return self.memory.total <= self.usable

    @property
    def tokens(self) -> int:
        """Of an optimizer step."""
        return self.recipe.train.global_batch_size * self.recipe.data.length

    @property
    def time(self) -> Time:
        """At the given MFU."""
        speed = self.setup.gpus * self.gpu.tflops * 1e12 * self.mfu
        step = self.tokens * self.flops.training / speed
        seconds = step * self.recipe.train.steps
        hours = seconds / 3600 * self.setup.gpus
        return Time(
            step=step,
            tokens_per_second=self.tokens / step,
            days=seconds / 86400,
            gpu_hours=hours,
            cost=None if self.price is None else self.price * hours,
        )

    @property
    def traffic(self) -> Traffic:
        """Of one GPU, in a step.

        A ring of n sends (n − 1)/n of what it gathers or scatters, and twice that of what it sums.
        Weights that are freed after the forward are gathered twice for each micro-batch, others
        once a step. Gradients cross with the last micro-batch.
        """
        setup = self.setup
        ring = (setup.shards - 1) / setup.shards
        copies = (setup.copies - 1) / setup.copies
        gathers = 2 * setup.accumulation if setup.reshard else 1
        trained = self.parameters.trained * setup.reduced.itemsize
        return Traffic(
            gathered=int(gathers * ring * self.parameters.total * setup.used.itemsize),
            scattered=int(ring * trained),
            reduced=int(2 * copies * trained / setup.shards),
        )

    def changed(self, **changes: Any) -> Planner:
        """The same recipe on the same GPUs, run in another way."""
        other = attrs.evolve(self, setup=attrs.evolve(self.setup, **changes))
        for name in ("network", "dry", "parameters", "shares", "flops"):
            if name in self.__dict__:  # what is known already is the same
                other.__dict__[name] = self.__dict__[name]
        return other


def planner_of(
    recipe: Recipe,
    vocab_size: int,
    gpu: Gpu,
    *,
    gpus: int = 1,
    gpus_per_node: int = 8,
    mfu: float = MFU,
    price: float | None = None,
) -> Planner:
    """Plan a recipe.

    Args:
        recipe: to be run.
        vocab_size: V.
        gpu: what each GPU can do.
        gpus, gpus_per_node: how many there are, and in one machine.
        mfu: model FLOPs over peak, in (0, 1].
        price: of a GPU-hour.

    Raises:
        RecipeError: where the batch does not divide evenly over so many GPUs.
    """
    group = dry_objective(recipe, vocab_size).objective.group
    setup = setup_of(recipe, group, gpus=gpus, gpus_per_node=gpus_per_node)
    return Planner(recipe=recipe, vocab_size=vocab_size, gpu=gpu, setup=setup, mfu=mfu, price=price)
