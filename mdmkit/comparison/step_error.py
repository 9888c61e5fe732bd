"""The error of few steps, as h predicts it and as a judge sees it.

They are not the same number. Predicted is by how much the NELBO of real text rises under T steps.
Judged is by how much the cross-entropy of generated text to another network rises over that at the
most steps, and beside it stands the same difference of what is predicted. Both are brought to bits
per byte, since the tokens of run and judge differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mdmkit.choices import USE
from mdmkit.comparison.generated_text import NLL, STEPS, TEMPERATURE, GeneratedText, tables_of
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.driver import Result
    from mdmkit.evaluation.suite_job import SuiteResult

PREDICTED = re.compile(r"predicted_error_(\d+)")
BITS = "generative_bits_per_byte"
AS_TRAINED: Mapping[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_steps": 1,
    "eos": "keep",
    "draws": "float64",
}
"""Options of a sampler with which it draws from the network's own distribution."""


@frozen(kw_only=True)
class StepError:
    """A run and a sampler at a number of steps.

    Attributes:
        run, sampler: which.
        steps: T.
        predicted: nats per token of the run's.
        predicted_bits: the same in bits per byte; None where the text's bytes are not known.
        predicted_over: over what is predicted of `most_steps`, its error as of independent numbers,
            which is too large; None where `judged` is, and where that is not predicted.
        predicted_over_bits: the same in bits per byte.
        judged: nats per token of the judge's, over `most_steps`; None where T was not generated.
        judged_bits: the same in bits per byte.
        most_steps: what `judged` is over.
    """

    run: str
    sampler: str
    steps: int
    predicted: Measurement
    predicted_bits: Measurement | None
    predicted_over: Measurement | None
    predicted_over_bits: Measurement | None
    judged: Measurement | None
    judged_bits: Measurement | None
    most_steps: int | None


def step_errors(
    result: SuiteResult, run: str, texts: Sequence[GeneratedText]
) -> Iterator[StepError]:
    """What the evaluators of a run predict, beside its texts at temperature 1.

    Args:
        result: of the run, with an evaluator that gives ``predicted_error_<T>``, and says in its
            provenance which samplers that is of.
        run: what it is called.
        texts: of the run.
    """
    for found in result.results.values():
        predicted = {
            int(fits[1]): number
            for name, number in found.measurements.items()
            if (fits := PREDICTED.fullmatch(name))
        }
        if not predicted:
            continue
        own: dict[tuple[str, str], dict[int, GeneratedText]] = {}
        for text in texts:
            if _predictable(text, found.provenance):
                key = text.run, text.apart_from(TEMPERATURE, STEPS)
                own.setdefault(key, {})[text.sampler[STEPS]] = text
        names = found.provenance.get("predicts", [])
        for group, sampler in own or [(run, name) for name in names[:1]]:
            by_steps = own.get((group, sampler), {})
            for steps in sorted(predicted):
                yield _row(group, sampler, steps, predicted, found, by_steps)


def _predictable(text: GeneratedText, facts: Mapping[str, Any]) -> bool:
    """Whether a prediction of these facts is of the sampler, on texts of this length."""
    length = facts.get("data", {}).get("length")
    return (
        text.sampler.get(USE) in facts.get("predicts", [])
        and STEPS in text.sampler
        and (length is None or text.ground.get("length") in (None, length))
        and all(
            table.get(key, value) == value
            for table in tables_of(text.sampler)
            for key, value in AS_TRAINED.items()
        )
    )


def _row(
    run: str,
    sampler: str,
    steps: int,
    predicted: Mapping[int, Measurement],
    found: Result,
    by_steps: Mapping[int, GeneratedText],
) -> StepError:
    size = found.provenance.get("bytes_per_token")
    most = max(by_steps, default=None)
    here = None if steps == most else by_steps.get(steps)
    judged, bits = (_judged(here, by_steps, most, name) for name in (NLL, BITS))
    least = None if most is None or judged is None else predicted.get(most)
    over = None if least is None else _rise(predicted[steps], least)
    return StepError(
        run=run,
        sampler=sampler,
        steps=steps,
        predicted=predicted[steps],
        predicted_bits=_in_bits(predicted[steps], size),
        predicted_over=over,
        predicted_over_bits=_in_bits(over, size),
        judged=judged,
        judged_bits=bits,
        most_steps=most,
    )


def _judged(
    here: GeneratedText | None, by_steps: Mapping[int, GeneratedText], most: int | None, name: str
) -> Measurement | None:
    """Over the most steps."""
    if here is None or most is None or name not in here.numbers:
        return None
    return _rise(here.numbers[name], by_steps[most].numbers[name])


def _rise(one: Measurement, other: Measurement) -> Measurement:
    """Their difference, as of independent numbers."""
    return Measurement(
        value=one.value - other.value,
        stderr=math.hypot(one.stderr, other.stderr),
        unit=one.unit,
    )


def _in_bits(number: Measurement | None, size: float | None) -> Measurement | None:
    """Per byte, of tokens of `size` bytes."""
    if number is None or not size:
        return None
    factor = 1 / (math.log(2) * size)
    return Measurement(value=number.value * factor, stderr=number.stderr * factor, unit="bits/byte")
