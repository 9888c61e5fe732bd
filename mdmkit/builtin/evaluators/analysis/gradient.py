"""What the gradient of each training looks like at the same weights: where from, how noisy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import field, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.analysis.gradient_batches import Batches, Drawn
from mdmkit.builtin.evaluators.analysis.gradient_findings import Finding
from mdmkit.builtin.evaluators.analysis.gradient_pictures import over_training, pictures_of
from mdmkit.builtin.evaluators.analysis.layer_groups import layer_groups
from mdmkit.builtin.evaluators.analysis.own_masks import causal_shares, own_masks_of
from mdmkit.builtin.evaluators.analysis.training_methods import Method, training_methods
from mdmkit.builtin.evaluators.likelihood import require_measured
from mdmkit.data.read_ahead import usable_memory
from mdmkit.errors import DataError, RecipeError
from mdmkit.options import option
from mdmkit.protocols import EvaluationContext, Split, Subject
from mdmkit.values import HeatMap, Measurement, Picture

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Gradient:
    """The gradients of several trainings at the weights of one network.

    Standard training (t uniform, weight 1/t: the NELBO), the same without the weight, a bell
    without it, and the run's own time sampler, mask pattern and weighting (where it is none of
    these). Of each, from ``batches`` independent batches of ``rows`` sequences:

    - the share of the gradient, of its noise and of the loss that comes from each range of t;
    - signal to noise, |G|²/tr(S): the true gradient over the covariance of the gradient of one
      sequence, by the parts of the network, and by t;
    - the cosine of the true gradient to that of the NELBO.

    Every product of two gradients is one of two independent batches, so that noise does not make a
    norm too large. Errors are jackknifed over batches. A gradient that cannot be told from noise
    has no direction: where a norm is below two standard errors there is no cosine, and it is said.
    The NELBO's own gradient is so noisy that it gets ``reference`` times the sequences, with times
    drawn as often as the weight 1/t makes them noisy.

    The run's time sampler and weighting are as at the step of the weights, without what they
    learned on the way. Of an objective that mixes in causal rows "the run's own" is the masked
    rows alone; of one that draws masks in another way than masked diffusion it is left out.

    The gradients of all batches of a method are kept at once, and beside them those of whole
    batches, of the method and of the NELBO: ``batches`` · (``bins`` + 2) numbers in float32 a
    parameter, in the memory of the CPU. Where there is no room for them it is refused.
    """

    subject: ClassVar[Subject] = "network"
    chief: ClassVar[tuple[str, ...]] = (
        *("signal_to_noise_uniform_1t", "signal_to_noise_uniform_flat"),
        "signal_to_noise_bell_flat",
    )

    split: Split = option("train", doc="which split: train, validation or test")
    batches: int = option(16, ge=3, doc="independent batches of each training")
    rows: int = option(32, ge=2, doc="sequences of a batch, their times stratified")
    reference: int = option(6, ge=1, doc="times as many sequences for the NELBO's gradient")
    bins: int = option(8, ge=1, doc="ranges of t, of equal width")
    width: float = option(0.1, gt=0, le=1000, doc="of the bell, around t = 0.5")

    over_training = staticmethod(over_training)

    def applies(self, recipe: Recipe) -> bool:
        """Whether the run's network predicts masked tokens."""
        return bool(recipe.objective.prediction == "masked")

    def build(self, context: EvaluationContext) -> LiveGradients:
        """Open the split, and look at the network.

        Raises:
            RecipeError: for a network that does not predict masked tokens; where no gradients can
                be had.
            DataError: where they do not fit into memory.
        """
        if context.prediction != "masked":
            raise RecipeError(f"gradient: {_WRONG_NETWORK}")
        if context.gradient is None or context.training is None:
            raise RecipeError(
                "gradient: it needs all of the network, and what it was trained with, in one "
                "process; run it without torchrun, on a trained run"
            )
        groups = layer_groups(context, context.gradient)
        self._require_room(sum(groups.sizes))
        methods = training_methods(
            context.training, own=own_masks_of(context.objective), width=self.width
        )
        batches = Batches(
            context=context,
            gradient=context.gradient,
            source=context.blocks(self.split),
            step=min(context.step or 0, context.training.facts.steps - 1),
            groups=groups,
        )
        return LiveGradients(options=self, methods=methods, batches=batches)

    def _require_room(self, parameters: int) -> None:
        """Refuse what the machine has no memory for."""
        needed, there = 4 * parameters * self.batches * (self.bins + 2), usable_memory()
        if needed > there:
            raise DataError(
                f"gradient: {self.batches} batches with {self.bins} ranges of t, of "
                f"{parameters:,} parameters, take {needed / 1e9:.1f} GB of memory, and there are "
                f"{there / 1e9:.1f} GB; expected fewer (options batches and bins)"
            )


_WRONG_NETWORK = (
    "the network does not predict masked tokens, and no time is drawn; expected one that does"
)


@frozen(kw_only=True, eq=False)
class LiveGradients:
    """`Gradient` on one network, made by its ``build``.

    Attributes:
        methods: the reference first.
        batches: draws batches and differentiates.
        drawn: of the method that is being measured, its batches so far.
        gradients: theirs, of each group of parameters ``[R, J, P]``, J = 1 for the reference.
        found: of the methods before it.
    """

    options: Gradient
    methods: list[Method]
    batches: Batches
    drawn: list[Drawn] = field(factory=list)
    gradients: list[Tensor] = field(factory=list)
    found: list[Finding] = field(factory=list)

    def __len__(self) -> int:
        """Batches of all methods."""
        return len(self.methods) * self.options.batches

    def update(self, index: int) -> None:
        """Draw one batch of one method; after its last, keep what is asked of it alone.

        Raises:
            MdmkitError: where the loss of the network or its gradient is not finite.
        """
        options = self.options
        number, batch = divmod(index, options.batches)
        method, is_reference = self.methods[number], not number
        if not batch:
            bins = 1 if is_reference else options.bins
            self.gradients[:] = self.batches.empty(options.batches, bins)
        mine = [group[batch] for group in self.gradients]
        drawn = self.batches.draw(
            method,
            batch,
            rows=options.rows * (options.reference if is_reference else 1),
            gradients=mine,
        )
        sums = [group.sum(-1).double() for group in mine]
        require_measured("gradient", options.split, torch.cat([drawn.loss, *sums]), drawn.rows)
        self.drawn.append(drawn)
        if batch == options.batches - 1:
            reference = self.found[0] if self.found else None
            self.found.append(Finding.of(method, self.drawn, self.gradients, reference))
            self.drawn.clear()
            self.gradients.clear()

    def compute(self) -> dict[str, Measurement]:
        """Signal to noise of each method, and the cosines that can be told from noise."""
        return {
            name: number
            for finding in self.found[1:]
            for name, number in finding.numbers(self.found[0]).items()
        }

    def pictures(self) -> dict[str, Picture | HeatMap]:
        """Shares by t, signal to noise by t and by part, cosines by part."""
        return pictures_of(self.found, self.batches.groups.names)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The text, the batches, and which gradients and cosines could not be told."""
        options = self.options
        silent = [f.method.title for f in self.found[1:] if f.cosines(self.found[0])[-1] is None]
        return {
            "split": options.split,
            "data": dict(self.batches.source.provenance),
            "batches": options.batches,
            "rows": options.rows,
            "reference_rows": options.rows * options.reference,
            "methods": [method.title for method in self.methods],
            "own_masks_known": own_masks_of(self.batches.context.objective) is not None,
            "causal_rows_left_out": causal_shares(
                self.batches.context.objective, [self.batches.step]
            ),
            "groups": {name: len(names) for name, names in self.batches.groups.parameters.items()},
            "cosine_lost_in_noise": silent,
            "gradient_lost_in_noise": [f.method.title for f in self.found[1:] if not f.clear],
            "stderr": f"jackknife over {options.batches} batches",
        }
