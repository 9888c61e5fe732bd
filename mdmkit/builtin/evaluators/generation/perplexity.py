"""Generative perplexity: how likely a judge finds what a run writes, and how diverse it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any, ClassVar

import torch
from attrs import field, frozen

from mdmkit.builtin.evaluators.generation.judge import LiveJudge, nats_of, retokenized
from mdmkit.builtin.evaluators.generation.options import Generating, TextMaker
from mdmkit.builtin.evaluators.generation.statistics import distinct, repetition, unigram_entropy
from mdmkit.builtin.evaluators.generation.texts import Text
from mdmkit.builtin.evaluators.generation.windows import STRIDE
from mdmkit.builtin.evaluators.likelihood import exponential, ratio_of_sums
from mdmkit.errors import DataError
from mdmkit.protocols import EvaluationContext
from mdmkit.values import Measurement

_REAL = "real_"


@frozen(kw_only=True)
class GenerativePerplexity(Generating):
    """The perplexity of generated text to a judge, with what unmasks a low one: entropy.

    Texts are generated, decoded, encoded anew with the judge's tokenizer, and scored from their
    first token on, given the judge's start token. Text that says the same over and over is likely:
    so ``unigram_entropy`` and the shares of repeated (``rep_n``) and of different (``distinct_n``)
    n-grams, all over the run's own tokens, belong to the number, and so does each of them for
    ``real_`` text of the same length. Standard errors are over texts.
    """

    chief: ClassVar[tuple[str, ...]] = (
        "generative_perplexity",
        "generative_nll",
        "unigram_entropy",
        "network_evaluations",
    )

    def build(self, context: EvaluationContext) -> LiveGenerativePerplexity:
        """Open the split and the judge.

        Raises:
            RecipeError: for options that do not fit, and where no judge can be made of them.
            DataError: where the split has fewer than two texts, or a model cannot be had.
            CheckpointError: where the run that judges cannot be read.
        """
        texts = TextMaker.of(self, context, name="generative_perplexity")
        return LiveGenerativePerplexity(texts=texts, judge=self.judge.open(context))


@frozen(kw_only=True)
class Judged:
    """A text and what the judge said.

    Attributes:
        text: the text.
        nats: −log p of all of it.
        tokens: how many the judge's tokenizer made of it.
    """

    text: Text
    nats: float
    tokens: int


@frozen(kw_only=True, eq=False)
class LiveGenerativePerplexity:
    """`GenerativePerplexity` on one network, made by its ``build``.

    Attributes:
        generated, real: what was judged so far.
        calls: of the network, a batch.
    """

    texts: TextMaker
    judge: LiveJudge
    generated: list[Judged] = field(factory=list)
    real: list[Judged] = field(factory=list)
    calls: list[int] = field(factory=list)

    def __len__(self) -> int:
        """Batches of generated and of real texts."""
        return len(self.texts)

    def update(self, index: int) -> None:
        """Make a batch of texts, and have it judged."""
        texts, calls = self.texts.batch(index)
        rows = retokenized(self.judge, texts)
        nats = nats_of(self.judge, rows, self.texts.context.batch_size)
        judged = [
            Judged(text=text, nats=value, tokens=len(row))
            for text, value, row in zip(texts, nats, rows, strict=True)
        ]
        (self.real if calls is None else self.generated).extend(judged)
        if calls is not None:
            self.calls.append(calls)

    def compute(self) -> dict[str, Measurement]:
        """All numbers, of generated and of real text.

        Raises:
            DataError: where no text has a token for the judge.
        """
        spread = stdev(self.calls) / math.sqrt(len(self.calls)) if len(self.calls) > 1 else 0.0
        calls = Measurement(value=fmean(self.calls), stderr=spread, unit="calls")
        real = {f"{_REAL}{name}": number for name, number in numbers(self.real, "real").items()}
        return {**numbers(self.generated, "generated"), "network_evaluations": calls, **real}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Who judged what, how it was made, and what the numbers mean."""
        return {
            **self.texts.provenance,
            "judge": dict(self.judge.provenance),
            "tokens_scored": sum(judged.tokens for judged in self.generated),
            "empty_texts": sum(judged.tokens == 0 for judged in self.generated),
            "damaged_texts": sum(judged.text.damaged for judged in self.generated),
            "real_tokens_scored": sum(judged.tokens for judged in self.real),
            "window_stride": STRIDE,
            "definitions": dict(DEFINITIONS),
        }


DEFINITIONS: Mapping[str, str] = {
    "generative_nll": "nats of all texts over their judge tokens; the judge's start token stands "
    "in front and is not scored, the end of a document is its EOS and is, padding is not",
    "generative_perplexity": "exp(generative_nll)",
    "generative_bits_per_byte": "the same nats, in bits, over UTF-8 bytes; the end of a document "
    "has none, and a replaced byte that is no UTF-8 is one",
    "unigram_entropy": "entropy of a text's own token frequencies in nats, mean over texts; the "
    "run's tokens, EOS included, padding not",
    "rep_n": "1 - unique/total n-grams of a text, mean over texts",
    "distinct_n": "unique/total n-grams of all texts together; error by jackknife over texts",
    "network_evaluations": "calls a batch, mean over batches; error over batches, 0 for one",
    "stderr": "over texts",
}


def numbers(judged: Sequence[Judged], kind: str) -> dict[str, Measurement]:
    """What is said of some texts.

    Args:
        judged: U >= 2 of them.
        kind: in a word, for the message.

    Raises:
        DataError: where the judge had nothing to score.
    """
    nats, tokens, size = (
        torch.tensor(column, dtype=torch.float64)
        for column in zip(*((j.nats, j.tokens, j.text.utf8_bytes) for j in judged), strict=True)
    )
    if not size.sum() > 0:
        raise DataError(
            f"generative_perplexity: all of the {len(judged)} {kind} texts are empty; there is "
            'nothing to judge (a sampler with eos = "stop" may end them at once)'
        )
    value, error = ratio_of_sums(nats, tokens)
    nll = Measurement(value=value, stderr=error, unit="nats/token")
    value, error = ratio_of_sums(nats / math.log(2), size)
    texts = [j.text.ids for j in judged]
    return {
        "generative_perplexity": exponential(nll),
        "generative_nll": nll,
        "generative_bits_per_byte": Measurement(value=value, stderr=error, unit="bits/byte"),
        "unigram_entropy": _mean(unigram_entropy, texts, unit="nats"),
        **{f"rep_{n}": _mean(partial(repetition, n=n), texts) for n in (2, 3, 4)},
        **{f"distinct_{n}": _share(*distinct(texts, n)) for n in (1, 2, 3)},
    }


def _mean(
    function: Callable[[Sequence[int]], float], texts: Sequence[Sequence[int]], unit: str = ""
) -> Measurement:
    """The mean over texts."""
    values = [function(ids) for ids in texts]
    return Measurement(
        value=fmean(values), stderr=stdev(values) / math.sqrt(len(values)), unit=unit
    )


def _share(value: float, error: float) -> Measurement:
    return Measurement(value=value, stderr=error)
