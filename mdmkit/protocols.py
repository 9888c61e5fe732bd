"""The contracts of every extension point, as types.

A hook returns *options classes*: frozen, keyword-only attrs classes whose fields are what a
recipe may set. A stateless component *is* its options object (schedule, time sampler without
memory, mask pattern, weighting, corpus). A component that has state, or needs facts of the run,
has ``build(...)``, which returns the live object; a live object with state also implements
``torch.distributed.checkpoint.stateful.Stateful`` and is checkpointed.

The contracts in words stand in `mdmkit.hookspecs`; the symbols are those of `mdmkit.values`.
Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from attrs import frozen

from mdmkit.values import (
    Attention,
    Batch,
    Bound,
    Generation,
    Loss,
    Measurement,
    Metrics,
    Noised,
    Vocabulary,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mdmkit.recipe import Recipe

T = TypeVar("T")
Split = Literal["train", "validation", "test"]
Prediction = Literal["masked", "next_token"]


@frozen(kw_only=True)
class RunFacts:
    """Facts of a run that a component may ask for: the argument of ``build(facts)``.

    A schedule, time sampler, mask pattern or loss weighting that needs none of them has no
    ``build`` and is used as it is.

    Attributes:
        vocab: the token ids.
        length: L, tokens a block.
        steps: optimizer steps of the whole run.
        global_batch_size: G, rows a step.
        learning_rate: ``learning_rate(step)``: the fraction of its peak, in [0, 1].
        token_counts: ``token_counts() -> [V]`` float64: how often each id occurs in training.
    """

    vocab: Vocabulary
    length: int
    steps: int
    global_batch_size: int
    learning_rate: Callable[[int], float]
    token_counts: Callable[[], Tensor]


# --- noise and time ------------------------------------------------------------------------


class NoiseSchedule(Protocol):
    """How much survives: ``alpha_t`` falls from 1 at t = 0 to (about) 0 at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        """Survival probability of a token, ``[B] -> [B]``."""

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative in t, ``[B] -> [B]``, negative inside (0, 1)."""


class Density(Protocol):
    """A probability density on (0, 1) that can be sampled through its quantile function."""

    def icdf(self, u: Tensor) -> Tensor:
        """Quantile: u in (0, 1) to t in (0, 1), ``[B] -> [B]`` float64, increasing."""

    def density(self, t: Tensor) -> Tensor:
        """q(t), ``[B] -> [B]``; integrates to 1 over (0, 1)."""


class TimeSampler(Protocol):
    """The density of the training time at each step.

    May also have ``observe(t, nll, count)``: called after each step with one entry per row of
    the *global* batch (``[G]`` float64 each, all-reduced): its time, its summed cross-entropy in
    nats, and how many tokens that sum has.
    """

    def at(self, step: int) -> Density:
        """The density for optimizer step `step` (0-based)."""


CountLaw = Literal["binomial", "ceiling", "other"]


class MaskPattern(Protocol):
    """Which positions are masked, given how many should be.

    Attributes:
        count_law: how the number of masked tokens follows from the rate r of a row with n
            maskable tokens: ``binomial``: Bin(n, r). ``ceiling``: ⌈r·n⌉, the subset uniform.
            ``other``: anything else.
        group: how many consecutive rows of the global batch share one sequence and one row of
            noise (1: none; 2: twins such as complementary masks).
        every_context: whether every set of visible tokens has positive probability (else some
            conditionals are never trained).
    """

    @property
    def group(self) -> int:
        """Rows that share one sequence and one row of noise."""

    @property
    def every_context(self) -> bool:
        """Whether every set of visible tokens stays possible."""

    @property
    def count_law(self) -> CountLaw:
        """How the number of masked tokens follows from the rate."""

    def rate(self, rate: Tensor, member: Tensor, size: Tensor) -> Tensor:
        """The marginal mask rate of a row that was asked for `rate`.

        Args:
            rate: 1 − alpha_t, ``[B]`` in (0, 1).
            member: ``[B]`` int64 in [0, group): which twin the row is.
            size: ``[B]``, how many maskable tokens the row has.

        Returns:
            ``[B]``: P(position is masked); `rate` itself unless the pattern says otherwise.
        """

    def mask(self, rate: Tensor, noise: Tensor, member: Tensor, maskable: Tensor) -> Tensor:
        """Choose the masked positions.

        Args:
            rate: 1 − alpha_t, ``[B]`` in (0, 1).
            noise: ``[B, L]`` float32, uniform on [0, 1), equal for the rows of a group.
            member: ``[B]`` int64 in [0, group).
            maskable: ``[B, L]`` bool; the result is a subset of it.

        Returns:
            ``[B, L]`` bool, True where masked.
        """


Normalizer = Literal["tokens", "masked", "weights", "sequence"]


class LossWeighting(Protocol):
    """The weight of a masked token's cross-entropy, and what the weighted sum is divided by.

    Attributes:
        normalizer: ``tokens``: all scored tokens of the global batch (B·L). ``masked``: its
            masked tokens. ``weights``: the summed weights of its masked tokens. ``sequence``:
            each row by its own masked count (an empty row counts 0), then by the number of rows.
    """

    @property
    def normalizer(self) -> Normalizer:
        """What the weighted sum is divided by."""

    def weight(
        self,
        *,
        t: Tensor,
        alpha_t: Tensor,
        dalpha_t: Tensor,
        density: Tensor,
        mask: Tensor,
        mask_count: Tensor,
        token_count: Tensor,
        step: int,
    ) -> Tensor:
        """Weights, finite and positive wherever something is masked.

        Args:
            t, alpha_t, dalpha_t: ``[B]`` float64, the time and the schedule there.
            density: q(t), ``[B]`` float64, the density t was drawn from.
            mask: ``[B, L]`` bool, the masked positions.
            mask_count, token_count: ``[B]`` float64, masked and maskable tokens of each row.
            step: the optimizer step, for weights that change over training.

        Returns:
            ``[B]`` or ``[B, L]`` float64.
        """


# --- the network ---------------------------------------------------------------------------


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


class DenoiserOptions(Protocol):
    """Options of a denoiser.

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


# --- objectives ----------------------------------------------------------------------------


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


Stratification = Literal["iid", "jittered", "offset", "mirrored"]


@frozen(kw_only=True)
class ObjectiveContext:
    """What an objective is built from. Components with state are live."""

    vocab: Vocabulary
    length: int
    noise_schedule: NoiseSchedule
    time_sampler: TimeSampler
    mask_pattern: MaskPattern
    loss_weighting: LossWeighting


class Checked(Protocol):
    """What any component (tokenizer and packing too) may have besides its contract.

    A component may also have ``needs``, a frozenset of features that the denoiser must support.
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


class ObjectiveOptions(Protocol):
    """Options of an objective.

    Attributes:
        needs: the denoiser features it asks for.
        prediction: what the trained network predicts, so that a sampler can say it fits.
    """

    needs: ClassVar[frozenset[str]]
    prediction: ClassVar[Prediction]

    def build(self, context: ObjectiveContext) -> Objective:
        """The live objective."""


# --- generation ----------------------------------------------------------------------------


@frozen(kw_only=True)
class SamplerContext:
    """What a sampler may use.

    Attributes:
        logits: calls the network: ``logits(xt [B, L], t [B] or None, attention) -> [B, L, V]``.
        uniform: ``uniform() -> [B, L]`` float64 on [0, 1): the next noise of each row; a row's
            noise depends on the seed and the row's number alone, never on its batch.
        vocab: the token ids.
        noise_schedule: the schedule the network was trained with.
        device: where tokens live.
    """

    logits: Callable[[Tensor, Tensor | None, Attention], Tensor]
    uniform: Callable[[], Tensor]
    vocab: Vocabulary
    noise_schedule: NoiseSchedule
    device: torch.device


class Sampler(Protocol):
    """A way to turn masks into text.

    Attributes:
        prediction: what kind of network it drives.
    """

    prediction: ClassVar[Prediction]

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``, yielding every state; the last has no mask.

        A token that is visible at the start is never changed.
        """


# --- text ----------------------------------------------------------------------------------


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab(self) -> Vocabulary:
        """Size and special ids."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the tokenizer's definition."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text. Text that looks like a special token is encoded as plain text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens are kept, so that masks can be seen."""


class Corpus(Protocol):
    """Named splits of text documents."""

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of `split`, in an order that never changes.

        Raises:
            DataError: where the split cannot be had, naming the ways out.
        """

    def fingerprint(self, split: Split) -> str:
        """A hash that changes whenever the documents do (content, or pinned revision)."""

    def describe(self, split: Split) -> Mapping[str, Any]:
        """Provenance as plain JSON: source, revision or sha256, licence where known."""


class BlockSource(Protocol):
    """A split, tokenized and cut into blocks of one length, read at random."""

    def __len__(self) -> int:
        """Number of blocks N."""

    def batch(self, rows: Tensor) -> Batch:
        """The blocks with the numbers ``rows [B]`` int64 in [0, N)."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Corpus, split, revision, tokenizer, packing, blocks, tokens: plain JSON."""


# --- evaluation and tracking ---------------------------------------------------------------


class NetworkCall(Protocol):
    """Runs a function of the denoiser inside the root module: right precision, no gradient."""

    def __call__(self, function: Callable[[Denoiser], T]) -> T:
        """``function(denoiser)``; its result must be a tensor or a tuple of tensors."""


@frozen(kw_only=True)
class EvaluationContext:
    """What an evaluator may use.

    Attributes:
        call: runs a function of the denoiser.
        objective, noise_schedule, tokenizer, sampler: of the run.
        prediction: what the network predicts.
        blocks: opens a split of the run's corpus, in the run's packing.
        draws: ``draws(seed, step, rows, global_rows)`` makes the numbers of one batch.
        batch_size: rows a network call.
        device: where the network lives.
        rank, world_size: this process among those that evaluate; blocks are dealt out by rank.
        seed: of the evaluation.
    """

    call: NetworkCall
    objective: Objective
    prediction: Prediction
    noise_schedule: NoiseSchedule
    tokenizer: Tokenizer
    sampler: Sampler
    blocks: Callable[[Split], BlockSource]
    draws: Callable[[int, int, Tensor, int], Draws]
    batch_size: int
    device: torch.device
    rank: int = 0
    world_size: int = 1
    seed: int = 0


class Evaluation(Protocol):
    """A live evaluator."""

    def __len__(self) -> int:
        """How many updates there will be (the same on every rank)."""

    def update(self, index: int) -> None:
        """Do one unit of work, `index` in [0, len)."""

    def compute(self) -> Mapping[str, Measurement]:
        """The numbers, each with its error, reduced over ranks."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was measured on what: data, protocol, draws; plain JSON."""


class Evaluator(Protocol):
    """Options of an evaluator."""

    def build(self, context: EvaluationContext) -> Evaluation:
        """The live evaluator."""


@frozen(kw_only=True)
class RunInfo:
    """What a tracker may know of a run.

    Attributes:
        directory: the run directory.
        name: the run's name.
        recipe: the resolved recipe, as plain data.
    """

    directory: Path
    name: str
    recipe: Mapping[str, Any]


class Tracking(Protocol):
    """A live tracker; called on rank 0 only."""

    def resume(self, step: int) -> None:
        """The run starts or goes on at `step`: forget everything after it."""

    def log(self, metrics: Metrics) -> None:
        """Take one line of metrics."""

    def close(self) -> None:
        """The run ends, well or not."""


class Tracker(Protocol):
    """Options of a tracker."""

    def build(self, run: RunInfo) -> Tracking:
        """The live tracker."""
