"""Contracts of what comes out of a network: generated text, measurements, tracked metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from attrs import frozen

from mdmkit.protocols.learning import Denoiser, Draws, Objective, Prediction
from mdmkit.protocols.noise import NoiseSchedule
from mdmkit.protocols.text import BlockSource, Split, Tokenizer
from mdmkit.values import Attention, Generation, Measurement, Metrics, Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


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
        length: L, the longest row that the network was trained on.
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
    length: int
    device: torch.device
    rank: int = 0
    world_size: int = 1
    seed: int = 0


class Evaluation(Protocol):
    """A live evaluator."""

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
    are what ``mdmkit eval --source`` and ``--precision`` set.
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
