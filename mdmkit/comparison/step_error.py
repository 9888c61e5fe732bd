"""The error of few steps, as h predicts it and as a judge sees it.

They are not the same number. Predicted is by how much the NELBO of real text rises under T steps.
Judged is by how much the cross-entropy of generated text to another network rises over that at the
most steps. Both are brought to bits per byte, since the tokens of run and judge differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mdmkit.choices import USE
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.comparison.frontier import GeneratedText
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.suite_job import SuiteResult

PREDICTED = re.compile(r"predicted_error_(\d+)")
BITS = "generative_bits_per_byte"
STEPS = "steps"
AS_TRAINED: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_steps": 1}
"""Options of a sampler with which it draws from the network's own distribution."""


@frozen(kw_only=True)
class StepError:
    """A run and a sampler at a number of steps.

    Attributes:
        run, sampler: which.
        steps: T.
        predicted: nats per token of the run's.
        predicted_bits: the same in bits per byte; None where the text's bytes are not known.
        judged: nats per token of the judge's, over `most_steps`; None where T was not generated.
        judged_bits: the same in bits per byte.
        most_steps: what `judged` is over.
    """

    run: str
    sampler: str
    steps: int
    predicted: Measurement
    predicted_bits: Measurement | None
    judged: Measurement | None
    judged_bits: Measurement | None
    most_steps: int | None


def step_errors(result: SuiteResult, texts: Sequence[GeneratedText]) -> Iterator[StepError]:
    """What the evaluators of a run predict, beside its texts at temperature 1.

    Args:
        result: of the run, with an evaluator that gives ``predicted_error_<T>``, and says in its
            provenance which samplers that is of.
        texts: of all runs.
    """
    run = result.directory.name
    for found in result.results.values():
        predicted = {
            int(fits[1]): number
            for name, number in found.measurements.items()
            if (fits := PREDICTED.fullmatch(name))
        }
        if not predicted:
            continue
        names = found.provenance.get("predicts", [])
        own = [text for text in texts if text.run == run and _predictable(text, names)]
        for sampler in dict.fromkeys(text.name for text in own) or names[:1]:
            by_steps = {text.sampler[STEPS]: text for text in own if text.name == sampler}
            for steps in sorted(predicted):
                yield _row(run, sampler, steps, predicted[steps], found, by_steps)


def _predictable(text: GeneratedText, names: Sequence[str]) -> bool:
    options = text.sampler
    plain = all(options.get(key, value) == value for key, value in AS_TRAINED.items())
    return options.get(USE) in names and STEPS in options and plain


def _row(
    run: str,
    sampler: str,
    steps: int,
    predicted: Measurement,
    found: Result,
    by_steps: Mapping[int, GeneratedText],
) -> StepError:
    size = found.provenance.get("bytes_per_token")
    most = max(by_steps, default=None)
    here = None if steps == most else by_steps.get(steps)
    return StepError(
        run=run,
        sampler=sampler,
        steps=steps,
        predicted=predicted,
        predicted_bits=None if not size else _scaled(predicted, 1 / (math.log(2) * size)),
        judged=_rise(here, by_steps, most, "generative_nll"),
        judged_bits=_rise(here, by_steps, most, BITS),
        most_steps=most,
    )


def _rise(
    here: GeneratedText | None, by_steps: Mapping[int, GeneratedText], most: int | None, name: str
) -> Measurement | None:
    """Over the most steps, as of independent numbers."""
    if here is None or most is None or name not in here.numbers:
        return None
    one, other = here.numbers[name], by_steps[most].numbers[name]
    return Measurement(
        value=one.value - other.value,
        stderr=math.hypot(one.stderr, other.stderr),
        unit=one.unit,
    )


def _scaled(number: Measurement, factor: float) -> Measurement:
    return Measurement(value=number.value * factor, stderr=number.stderr * factor, unit="bits/byte")
