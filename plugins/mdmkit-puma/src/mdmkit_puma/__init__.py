"""Progressive unmasking for mdmkit: training on the masks that generation goes through.

Standard training hides random tokens; a sampler that decides the surest tokens first never meets
most of these masks. PUMA (Kim et al., arXiv 2602.10314) trains on the states of such a sampler:
each sequence stays in a pool, and after every step its surest tokens are lifted, with their true
values, until it is done and a new sequence takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from attrs import frozen

from mdmkit import component, hookimpl, option
from mdmkit.protocols import ObjectiveContext, ObjectiveOptions, Prediction
from mdmkit_puma.watching import Order

if TYPE_CHECKING:
    from mdmkit import Recipe
    from mdmkit_puma.objective import LivePuma

MDMKIT_API = 1

_TIMES = (0.1, 0.3, 0.5, 0.9)


@frozen(kw_only=True)
class Puma:
    """Progressive unmasking (arXiv 2602.10314, section 3.2): masks follow the network's confidence.

    Row i of the global batch keeps its sequence for several steps. In stage j of K = ``stages`` a
    share of its tokens is visible that is uniform in [j/K, (j + 1)/K); after a step the tokens
    that the network is surest of are lifted, with their true values, until the next stage's share
    is reached, and all those with a probability above ``threshold`` besides. After its last stage,
    or when nothing is masked, the row takes the next sequence of its data. The first sequences
    begin in different stages, evenly over the global batch.

    The confidences are those of the forward pass that makes the loss. What is hidden is weighed by
    the recipe's loss weighting, at a density of times that makes mask ratios uniform; the authors'
    loss is ``flat`` with the normalizer ``sequence``. Defaults are ours where the authors' code
    (github.com/JaeyeonKim01/PUMA) has none of its own: it says ``threshold`` 0.9, and 8 to 42
    stages.
    """

    stages: int = option(12, ge=1, doc="K, stages that a sequence goes through at most")
    threshold: float = option(
        0.9, gt=0, le=1, doc="tokens more probable than this are lifted early; 1: none is"
    )
    order: Order = option(
        "confidence",
        doc="which tokens are lifted first: confidence (the likeliest token's probability), margin "
        "(to the next one) or entropy (the lowest)",
    )
    restart: Literal["first_stage", "all_masked"] = option(
        "first_stage",
        doc="how a later sequence begins: with random tokens visible, a share uniform in "
        "[0, 1/K), or with none",
    )
    bound: ObjectiveOptions = component(
        "masked_diffusion", doc="the objective whose bound and nll measure the network"
    )
    needs: ClassVar[frozenset[str]] = frozenset()
    prediction: ClassVar[Prediction] = "masked"
    remark: ClassVar[str] = (
        "the curves are those of independent masks at the ratios of puma's stages; which tokens "
        "puma hides, and how long a sequence stays, follows the network's confidence, so that its "
        "h is another and its ratios are uniform only as long as few tokens pass the threshold"
    )

    def check(self, recipe: Recipe) -> Iterator[str]:
        """What has no part in it, and stages that would be empty."""
        if self.bound.prediction != "masked":
            yield (
                f"bound: measures a network that predicts {self.bound.prediction!r}; puma trains "
                'one that predicts masked tokens, so choose "masked_diffusion"'
            )
        if self.stages > recipe.data.length:
            yield (
                f"stages: {self.stages} are more than the {recipe.data.length} tokens of a block "
                "(data.length); choose fewer"
            )
        if not _uniform(recipe.time_sampler):
            yield (
                "puma draws no times, its mask ratios come from its stages; leave [time_sampler] "
                'out, or set time_sampler.use = "uniform"'
            )
        pattern = recipe.mask_pattern
        if (
            getattr(pattern, "group", None) != 1
            or getattr(pattern, "count_law", None) != "binomial"
        ):
            yield (
                "puma's masks come from its pool; leave [mask_pattern] out, or set "
                'mask_pattern.use = "independent"'
            )

    def build(self, context: ObjectiveContext) -> LivePuma:
        """The live objective, with an empty pool."""
        from mdmkit_puma.objective import LivePuma
        from mdmkit_puma.pool import Pool

        pool = Pool(rows=context.facts.global_batch_size, length=context.length)
        return LivePuma(options=self, context=context, measure=self.bound.build(context), pool=pool)


def _uniform(time_sampler: object) -> bool:
    """Whether every time is as likely as any other, at the start; one that is built may adapt."""
    if hasattr(time_sampler, "build") or not hasattr(time_sampler, "at"):
        return False
    times = torch.tensor(_TIMES, dtype=torch.float64)
    return bool((time_sampler.at(0).density(times) == 1).all())


@hookimpl
def mdmkit_objectives() -> Mapping[str, type]:
    """The objective of this plugin."""
    return {"puma": Puma}
