"""Contracts of what learns, and from what: the denoiser and the objective."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from attrs import frozen

from mdmkit.protocols.noise import (
    LossWeighting,
    MaskPattern,
    NoiseSchedule,
    RunFacts,
    TimeSampler,
)
from mdmkit.values import Attention, Batch, Bound, Loss, Noised, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mdmkit.recipe import Recipe

Prediction = Literal["masked", "next_token", "any_order"]
Stratification = Literal["iid", "jittered", "offset", "mirrored"]


class Denoiser(Protocol):
    """A network that says what is under the masks: ``unembed(denoiser(xt)) -> logits``."""

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """The repeated layers, in order: what is sharded, checkpointed and compiled."""

    def __call__(
        self, tokens: Tensor, *, t: Tensor | None = None, attention: Attention = ...
    ) -> Tensor:
        """``tokens [B, L]`` int64 (and ``t [B]``) to ``h [B, L, D]``."""

    def unembed(self, h: Tensor) -> Tensor:
        """``h [..., D]`` to logits ``[..., V]``."""


class CachingDenoiser(Denoiser, Protocol):
    """A denoiser with ``cache`` among what it supports.

    Called with ``Attention(causal=True, cache=...)`` it takes any number of tokens, which follow
    those that the cache holds, and adds them to it.
    """

    def new_cache(self, rows: int, length: int) -> object:
        """An empty cache for ``Attention.cache``, with room for so many rows and positions."""


class DenoiserOptions(Protocol):
    """Options of a denoiser.

    May also have ``resolved()``, called whenever a recipe is loaded: options of the same class
    with all that they take from outside filled in (the shape of a network in some folder, say), so
    that a saved recipe stands by itself; what is resolved is left as it is. It raises a
    `RecipeError` or `DataError` where that cannot be had; an OSError becomes a `RecipeError`. And
    ``initialize(denoiser)``, called once where a training begins (not where it resumes, nor for an
    evaluation): it fills the network that `build` made, whole and on the CPU, with first weights
    from elsewhere, and raises an `MdmkitError` where it cannot.

    Attributes:
        supports: what it can do, out of ``causal``, ``document_ids``, ``padding``, ``positions``,
            ``cache``, ``t``. A recipe that needs more fails at ``mdmkit check``.
        length_multiple: the sequence length must be a multiple of this.
    """

    supports: ClassVar[frozenset[str]]

    @property
    def length_multiple(self) -> int:
        """The sequence length must be a multiple of this."""

    def build(self, vocab: Vocabulary) -> nn.Module:
        """The network (a `Denoiser`), its weights drawn from torch's global generator."""


class Draws(Protocol):
    """The random numbers of one step: a function of (seed, step, stream name), not a state.

    They are drawn for the whole global batch; a micro-batch gets the rows that are its own, so
    neither the number of ranks nor that of accumulation steps changes them.
    """

    @property
    def step(self) -> int:
        """The optimizer step they belong to."""

    @property
    def rows(self) -> Tensor:
        """``[B]`` int64: the rows of the global batch that this micro-batch has."""

    def uniform(self, stream: str, *shape: int, group: int = 1) -> Tensor:
        """``[B, *shape]`` float32, uniform on [0, 1); rows of a group get the same numbers."""

    def strata(self, stream: str, kind: Stratification, *, group: int = 1) -> Tensor:
        """``[B]`` float64 in (0, 1), stratified over the global batch; see `diffusion.stratify`."""


@frozen(kw_only=True)
class ObjectiveContext:
    """What an objective is built from.

    Attributes:
        vocab, length: the token ids; L.
        noise_schedule, time_sampler, mask_pattern, loss_weighting: live.
        facts: of the run, for objectives that change on the way.
    """

    vocab: Vocabulary
    length: int
    noise_schedule: NoiseSchedule
    time_sampler: TimeSampler
    mask_pattern: MaskPattern
    loss_weighting: LossWeighting
    facts: RunFacts


class Checked(Protocol):
    """What any component (tokenizer and packing too) may have besides its contract.

    A component may also have ``needs``, a frozenset of features that the denoiser must support;
    and a schedule, time sampler, mask pattern, weighting or objective ``remark``, a sentence (or
    None) that ``mdmkit show`` prints beside the curves: what they do not say of it.
    """

    def check(self, recipe: Recipe) -> Iterable[str]:
        """What it objects to in the rest of the recipe; called whenever a recipe is loaded.

        Returns:
            One line each; ``option: what is wrong`` names the option, other words blame the
            whole table.
        """


class Objective(Protocol):
    """What is trained: how text becomes a task, and how an answer becomes a loss.

    Attributes:
        exact: whether `bound` is the exact NLL (then one draw is enough).
        group: rows of the global batch that share one sequence.
    """

    @property
    def exact(self) -> bool:
        """Whether `bound` is exact."""

    @property
    def group(self) -> int:
        """Rows that share one sequence."""

    def corrupt(self, batch: Batch, draws: Draws) -> Noised:
        """Make a micro-batch ready (on the CPU); called for all of a step's before any loss."""

    def loss(self, denoiser: Denoiser, noised: Noised) -> Loss:
        """The weighted sum of cross-entropies; runs inside the root module's forward."""

    def bound(self, denoiser: Denoiser, batch: Batch, draws: Draws) -> Bound:
        """One unbiased estimate of each row's NELBO, whatever weighting the training used."""

    def nll(self, denoiser: Denoiser, batch: Batch, mask: Tensor) -> Tensor:
        """The cross-entropy of each token under ``mask [B, L]`` bool, given what is not masked.

        Where `exact`, each token is predicted from those before it instead, masked or not; the
        mask only says which are asked for.

        Returns:
            ``[B, L]`` float64 nats; 0 where nothing is masked, and at padding, which may be
            masked, too (``Batch.padding_seen``).
        """


class ObjectiveOptions(Protocol):
    """Options of an objective.

    Attributes:
        needs: the denoiser features it asks for.
        prediction: what the trained network predicts, so that a sampler can say it fits.

    Where rows are shown shifted right, for next-token prediction, or in another order, it also
    says ``shifts_text = True``: a denoiser that shifts by itself does not fit.
    """

    needs: ClassVar[frozenset[str]]
    prediction: ClassVar[Prediction]

    def build(self, context: ObjectiveContext) -> Objective:
        """The live objective."""
