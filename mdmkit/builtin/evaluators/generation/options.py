"""What all evaluators of generated text ask for, and the texts they work on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import torch
from attrs import frozen
from torch import Tensor

from mdmkit.builtin.evaluators.generation.judge import Judge
from mdmkit.builtin.evaluators.generation.texts import Text, text_of
from mdmkit.builtin.evaluators.pairs import evenly_spaced
from mdmkit.errors import DataError, RecipeError
from mdmkit.options import option
from mdmkit.protocols import BlockSource, EvaluationContext, Prediction, Sampler, Split
from mdmkit.values import Generation

if TYPE_CHECKING:
    from mdmkit.recipe import Recipe


@frozen(kw_only=True)
class Generating:
    """Options of evaluators that generate text and have it judged."""

    n: int = option(64, ge=2, doc="texts that are generated, and real ones to compare them with")
    length: int | None = option(
        None, ge=1, doc="the run's tokens a text; unset: as many as a block has"
    )
    sampler: Sampler | None = option(None, doc="how they are generated; unset: the run's sampler")
    judge: Judge = option(Judge(), doc="the network that judges")
    split: Split = option("test", doc="where the real text is from: train, validation or test")
    allow_float32: bool = option(
        False, doc="take samplers with draws = float32, which lower entropy and flatter the number"
    )

    def check(self, recipe: Recipe) -> Iterator[str]:
        """A sampler for another network, 32-bit draws, a length that does not fit, no judge."""
        yield from self.problems(
            own=recipe.sampler,
            prediction=recipe.objective.prediction,
            block=recipe.data.length,
            longest=recipe.data.length,
        )
        multiple = recipe.denoiser.length_multiple
        if self.length is not None and self.length % multiple:
            yield f"length: the denoiser needs a multiple of {multiple}, got {self.length}"

    def applies(self, recipe: Recipe) -> bool:
        """Whether its sampler, if it names one, drives the network of `recipe`."""
        return self.sampler is None or self.sampler.prediction == recipe.objective.prediction

    def problems(
        self, *, own: Sampler, prediction: Prediction, block: int, longest: int
    ) -> Iterator[str]:
        """What does not fit.

        Args:
            own: the run's sampler.
            prediction: what the run's network predicts.
            block: the tokens of a block.
            longest: the longest row that it was trained on.
        """
        sampler = self.sampler or own
        if sampler.prediction != prediction:
            yield (
                f'sampler: drives a network that predicts "{sampler.prediction}", and this one '
                f'predicts "{prediction}"; choose another with use'
            )
        if _draws(sampler) == "float32" and not self.allow_float32:
            yield (
                'sampler: draws = "float32" lowers the entropy of text, and so its perplexity '
                '(arXiv 2409.02908); expected "float64", or allow_float32 = true'
            )
        length = self.length or block
        if length > longest and not getattr(sampler, "any_length", False):
            yield (
                f"length: the network was trained on rows of {longest} tokens, and this sampler "
                f"makes none that are longer; got {length}"
            )
        yield from self.judge.problems()


def _draws(sampler: Sampler) -> str:
    return str(getattr(sampler, "draws", "float64"))


@frozen(kw_only=True, eq=False)
class TextMaker:
    """Generated and real texts, batch by batch: first all generated ones.

    Every rank makes all of them.

    Attributes:
        sampler, length: with which texts are generated.
        source: the blocks that real text is from.
        starts: ``[R]`` int64, the first block of each real text.
    """

    options: Generating
    context: EvaluationContext
    sampler: Sampler
    length: int
    source: BlockSource
    starts: Tensor

    @classmethod
    def of(cls, options: Generating, context: EvaluationContext, *, name: str) -> TextMaker:
        """Open the split.

        Args:
            options: of the evaluator.
            context: of the evaluation.
            name: of the evaluator, for messages.

        Raises:
            RecipeError: with every option that does not fit.
            DataError: where the split has fewer than two texts.
        """
        problems = options.problems(
            own=context.sampler,
            prediction=context.prediction,
            block=context.length,
            longest=context.trained_length or context.length,
        )
        found = [f"{name}: {problem}" for problem in problems]
        if found:
            raise RecipeError(found)
        length = options.length or context.length
        source = context.blocks(options.split)
        span = -(-length // context.length)
        starts = evenly_spaced(len(source) // span, options.n) * span
        if len(starts) < 2:
            raise DataError(
                f"{name}: split {options.split!r} has {len(source)} blocks of {context.length} "
                f"tokens; expected at least two texts of {length} (more text, or another split)"
            )
        return cls(
            options=options,
            context=context,
            sampler=options.sampler or context.sampler,
            length=length,
            source=source,
            starts=starts,
        )

    def __len__(self) -> int:
        """Batches of both kinds."""
        return self._generated + -(-len(self.starts) // self.context.batch_size)

    @property
    def _generated(self) -> int:
        return -(-self.options.n // self.context.batch_size)

    def batch(self, index: int) -> tuple[list[Text], int | None]:
        """The texts of a batch, and how many network calls they took; None for real ones."""
        size = self.context.batch_size
        if index < self._generated:
            return self._generate(range(index * size, min((index + 1) * size, self.options.n)))
        first = (index - self._generated) * size
        return self._real(self.starts[first : first + size]), None

    def _generate(self, rows: range) -> tuple[list[Text], int]:
        context = self.context
        tokenizer = context.tokenizer
        start = torch.full((len(rows), self.length), tokenizer.vocab.mask_id)
        state = Generation.last_of(
            context.generate(self.sampler, start, rows=rows, seed=context.seed)
        )
        texts = [text_of(ids, tokenizer, ends_at_eos=self._ends) for ids in state.tokens.tolist()]
        return texts, state.network_evaluations

    def _real(self, starts: Tensor) -> list[Text]:
        """The real texts that begin with these blocks; a long one has several in a row."""
        span = -(-self.length // self.context.length)
        rows = starts[:, None] + torch.arange(span)  # [B, span]
        batch = self.source.batch(rows.flatten())
        real = batch.tokens >= 0 if batch.real is None else batch.real
        texts = []
        for tokens, keep in zip(
            batch.tokens.view(len(starts), -1), real.view(len(starts), -1), strict=True
        ):
            ids = tokens[keep][: self.length].tolist()
            texts.append(text_of(ids, self.context.tokenizer, ends_at_eos=self._ends))
        return texts

    @property
    def _ends(self) -> bool:
        return getattr(self.sampler, "eos", "keep") == "stop"

    @property
    def provenance(self) -> dict[str, Any]:
        """What is generated how, and where real text is from, as plain JSON."""
        return {
            "n": self.options.n,
            "length": self.length,
            "seed": self.context.seed,
            "sampler": {"class": type(self.sampler).__name__, **_plain(self.sampler)},
            "float32_draws": _draws(self.sampler) == "float32",
            "ends_at_eos": self._ends,
            "split": self.options.split,
            "data": dict(self.source.provenance),
            "real_texts": len(self.starts),
            "real_blocks": "evenly spaced over the split, cut to length",
        }


def _plain(component: Any) -> dict[str, Any]:
    """Options of a component, those of its own components with their class."""

    def value(_: Any, __: Any, found: Any) -> Any:
        known = attrs.has(type(found))
        return {"class": type(found).__name__, **_plain(found)} if known else found

    return attrs.asdict(component, recurse=False, value_serializer=value)
