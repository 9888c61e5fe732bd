"""Contracts of what comes out of a network: generated text, measurements, tracked metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from attrs import frozen

from mdmkit.errors import CheckpointError
from mdmkit.protocols.learning import (
    Denoiser,
    Draws,
    Objective,
    ObjectiveContext,
    Prediction,
)
from mdmkit.protocols.noise import NoiseSchedule
from mdmkit.protocols.text import BlockSource, Corpus, Split, Tokenizer
from mdmkit.values import Attention, Generation, Measurement, Metrics, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Subject = Literal["network", "corpus", "recipe"]


class NetworkLogits(Protocol):
    """Calls the network on partly masked text."""

    def __call__(
        self, xt: Tensor, t: Tensor | None, attention: Attention, at: Tensor | None = None
    ) -> Tensor:
        """Logits ``[B, L, V]`` of ``xt [B, L]`` int64 at ``t [B]``.

        With ``at [B, L]`` bool only those of these N positions, ``[N, V]`` in row-major order:
        with a large vocabulary all logits of a batch are gigabytes.
        """


def no_cache(rows: int, length: int) -> object | None:  # noqa: ARG001 - the signature
    """For networks that keep no key-value cache."""
    return None


@frozen(kw_only=True)
class SamplerContext:
    """What a sampler may use.

    Attributes:
        logits: calls the network on all rows of the batch; for some of them ask `logits_of`.
        uniform: ``uniform() -> [B, L]`` float64 on [0, 1): the next noise of each row; a row's
            noise depends on the seed and the row's number alone, never on its batch.
        vocab: the token ids.
        noise_schedule: the schedule the network was trained with.
        device: where tokens live.
        length: the longest row that the network was trained on.
        new_cache: ``new_cache(rows, length)`` makes an empty key-value cache for
            ``Attention.cache``, or is None where the denoiser does not support ``cache``.
        some_rows: set by a sampler that fills a part of each row by another one, and so has to
            know which rows it is shown; see `logits_of`.
    """

    logits: NetworkLogits
    uniform: Callable[[], Tensor]
    vocab: Vocabulary
    noise_schedule: NoiseSchedule
    device: torch.device
    length: int
    new_cache: Callable[[int, int], object | None] = no_cache
    some_rows: Callable[[Tensor], NetworkLogits] | None = None

    def logits_of(self, rows: Tensor) -> NetworkLogits:
        """Calls the network on some rows of the batch only, ``rows [R]`` int64.

        What it is called with then has these R rows: ``logits_of(rows)(xt[rows], t[rows], …)``.
        """
        return self.logits if self.some_rows is None else self.some_rows(rows)


class Sampler(Protocol):
    """A way to turn masks into text.

    It may also have ``any_length``, a class variable: True where it can fill rows longer than
    those that the network was trained on (it then shows the network ``context.length`` tokens at
    most at a time); and ``draws`` and ``eos``, options that `mdmkit sample` knows: ``float32``
    draws are warned of, and with ``eos = "stop"`` a text ends at its first generated EOS.

    Attributes:
        prediction: what kind of network it drives.
    """

    prediction: ClassVar[Prediction]

    def generate(self, tokens: Tensor, context: SamplerContext) -> Iterator[Generation]:
        """Fill the masks of ``tokens [B, L]``, yielding every state; the last has no mask.

        A token that is visible at the start is never changed.
        """


class GenerateCall(Protocol):
    """Runs a sampler on the network of a run."""

    def __call__(
        self, sampler: Sampler, start: Tensor, *, rows: Sequence[int], seed: int
    ) -> Iterator[Generation]:
        """Every state on the way from ``start [B, L]`` to text without masks.

        Args:
            sampler: must drive a network of this kind.
            start: the tokens to begin with, masks where text is wanted.
            rows: B numbers; with the seed each fixes the noise of its row.
            seed: of the noise.

        Raises:
            PluginError: where the sampler leaves a mask or changes a visible token.
        """


class NetworkCall(Protocol):
    """Runs a function of the denoiser inside the root module: right precision, no gradient."""

    def __call__(self, function: Callable[[Denoiser], T]) -> T:
        """``function(denoiser)``; its result must be a tensor or a tuple of tensors."""


class GradientCall(Protocol):
    """Differentiates a function of the denoiser: no dropout, the run's precision."""

    def __call__(self, function: Callable[[Denoiser], Tensor]) -> dict[str, Tensor]:
        """The gradient of ``function(denoiser)``, a scalar, by the name of each parameter.

        Each has the shape of its parameter, in float32, and no graph behind it; parameters that
        the function does not depend on have zeros.
        """


@frozen(kw_only=True)
class OtherRun:
    """A trained run that helps to measure another: a judge of its text, say.

    Attributes:
        call: runs a function of its denoiser.
        objective, tokenizer, prediction, length: of that run, as in `EvaluationContext`.
        provenance: which run, which weights, as plain JSON.
    """

    call: NetworkCall
    objective: Objective
    tokenizer: Tokenizer
    prediction: Prediction
    length: int
    provenance: Mapping[str, Any]


def no_other_run(run: str) -> OtherRun:
    """For contexts without a folder of runs.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(f'run "{run}": there is no folder of runs here')


@frozen(kw_only=True)
class EvaluationContext:
    """What an evaluator may use.

    Attributes:
        call: runs a function of the denoiser.
        objective, noise_schedule, tokenizer, sampler: of the run.
        prediction: what the network predicts.
        blocks: opens a split of the run's corpus, in the run's packing.
        draws: ``draws(seed, step, rows, global_rows)`` makes the numbers of one batch.
        generate: runs a sampler on the network; with several ranks all of them must make the same
            rows, so that their network calls go together.
        open_run: opens another run by directory or name (`CheckpointError` where there is none).
        batch_size: rows a network call.
        length: L, the tokens of a block.
        device: where the network lives.
        rank, world_size: this process among those that evaluate; blocks are dealt out by rank.
        seed: of the evaluation.
        trained_length: the longest row that the network was trained on; None: L.
        length_multiple: the length of a row must be a multiple of this.
        training: what the run's objective was built from: its schedule, time sampler, mask
            pattern and weighting; None where there is no such thing.
        corpus: the run's; None where the text comes from elsewhere.
        gradient: differentiates a function of the denoiser; None where that cannot be done: with
            several ranks, or without a trained network.
        step: the optimizer steps behind the network's weights; None where there are none.
    """

    call: NetworkCall
    objective: Objective
    prediction: Prediction
    noise_schedule: NoiseSchedule
    tokenizer: Tokenizer
    sampler: Sampler
    blocks: Callable[[Split], BlockSource]
    draws: Callable[[int, int, Tensor, int], Draws]
    generate: GenerateCall
    batch_size: int
    length: int
    device: torch.device
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    open_run: Callable[[str], OtherRun] = no_other_run
    trained_length: int | None = None
    length_multiple: int = 1
    training: ObjectiveContext | None = None
    corpus: Corpus | None = None
    gradient: GradientCall | None = None
    step: int | None = None


class Evaluation(Protocol):
    """A live evaluator.

    It may also have ``pictures()``, a mapping of short names to `mdmkit.values.Picture` or
    `mdmkit.values.HeatMap`, asked for after ``compute()``: what is more than a few numbers.
    """

    def __len__(self) -> int:
        """How many updates there will be (the same on every rank).

        It may grow while they are done: an evaluation that draws until it is precise enough.
        """

    def update(self, index: int) -> None:
        """Do one unit of work, `index` in [0, len)."""

    def compute(self) -> Mapping[str, Measurement]:
        """The numbers, each with its error, reduced over ranks."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was measured on what: data, protocol, draws; plain JSON.

        It may be asked for before the first update, too: what it then says of the data tells
        whether an earlier measurement of the same may be kept.
        """


class Evaluator(Protocol):
    """Options of an evaluator.

    May also have ``chief``, a class variable: the names of the few measurements that a table of
    many sets shows; all of them without it. One with an option ``path`` reads its data there, and
    one with an option ``precision`` goes on until that relative standard error is reached: these
    are what ``mdmkit eval --source`` and ``--precision`` set. One that is for some runs only may
    have ``applies(recipe) -> bool``: it is left out of a suite, and of an analysis, for other runs.

    An evaluator that ``mdmkit analyze`` runs by itself has ``subject``, a class variable: what it
    is about. ``network``: a trained network; it is run at every checkpoint that is asked for.
    ``corpus``: the text alone. ``recipe``: neither. For the last two ``context.call`` raises. One
    of networks may have ``over_training(results)``, a static method: of the results of several
    checkpoints, by step and rising, it makes pictures of the way between them, by short names.
    """

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
