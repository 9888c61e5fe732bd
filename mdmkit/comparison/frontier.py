"""The generation frontier: what grids of samplers found, run by run, ready to be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from mdmkit.comparison.generated_text import (
    ENTROPY,
    GROUND,
    NLL,
    REAL,
    GeneratedText,
    grouped,
    texts_of,
)
from mdmkit.comparison.matched_entropy import Matched, match
from mdmkit.comparison.run_names import run_names
from mdmkit.comparison.step_error import StepError, step_errors
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.suite_job import SuiteResult


@frozen(kw_only=True)
class Frontier:
    """What several runs came to on a suite with grids.

    Attributes:
        suite: its name.
        preset: of the preset that was laid over it.
        title: in words.
        texts: what was generated, run by run.
        real: the numbers of real text, by run.
        matched: the NLLs at equal entropies.
        steps: the error of few steps, as predicted and as judged.
        cautions: what is not comparable, in words.
    """

    suite: str
    preset: str | None
    title: str
    texts: Sequence[GeneratedText]
    real: Mapping[str, Mapping[str, Measurement]]
    matched: Sequence[Matched]
    steps: Sequence[StepError]
    cautions: Sequence[str] = ()

    @classmethod
    def of(cls, results: Sequence[SuiteResult]) -> Frontier:
        """Bring together what runs came to on the same suite."""
        names = run_names([result.directory for result in results])
        by_run = [
            grouped(list(texts_of(result, run))) for result, run in zip(results, names, strict=True)
        ]
        texts = [text for own in by_run for text in own]
        real = {
            run: _real(result, [text.label for text in own if text.run == run])
            for result, own in zip(results, by_run, strict=True)
            for run in dict.fromkeys(text.run for text in own)
        }
        return cls(
            suite=results[0].suite.name,
            preset=results[0].suite.preset,
            title=results[0].suite.title,
            texts=texts,
            real=real,
            matched=match(texts, {run: found[ENTROPY] for run, found in real.items() if found}),
            steps=[
                row
                for result, run, own in zip(results, names, by_run, strict=True)
                for row in step_errors(result, run, own)
            ],
            cautions=[*_cautions(texts), *_own_judges(results, names)],
        )

    @property
    def runs(self) -> list[str]:
        """Those that have generated text."""
        return list(dict.fromkeys(text.run for text in self.texts))

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "kind": "mdmkit frontier",
            "suite": self.suite,
            "preset": self.preset,
            "title": self.title,
            "texts": [text.to_json() for text in self.texts],
            "real": {
                run: {name: asdict(number) for name, number in numbers.items()}
                for run, numbers in self.real.items()
            },
            "matched_entropy": [asdict(entry) for entry in self.matched],
            "few_steps": [asdict(entry) for entry in self.steps],
            "cautions": list(self.cautions),
        }


def has_frontier(results: Sequence[SuiteResult]) -> bool:
    """Whether the suite has grids, of sets in which text is generated and judged."""
    suite = results[0].suite
    return bool(suite.grids) and any(generated_labels(result) for result in results)


def generated_labels(result: SuiteResult) -> list[str]:
    """The sets in which text is generated and judged."""
    return [text.label for text in texts_of(result, "")]


def _cautions(texts: Sequence[GeneratedText]) -> Iterator[str]:
    """Runs that are not compared with the first, and why."""
    for run in dict.fromkeys(text.run for text in texts):
        ground = next(text.ground for text in texts if text.run == run)
        other = [key for key in GROUND if ground.get(key) != texts[0].ground.get(key)]
        if other:
            yield f"{run}: not compared with {texts[0].run}: it differs in {', '.join(other)}"


def _own_judges(results: Sequence[SuiteResult], names: Sequence[str]) -> Iterator[str]:
    """Runs that judge their own text."""
    for result, name in zip(results, names, strict=True):
        facts = [result.results[label].provenance for label in generated_labels(result)]
        judges = [(known.get("judge"), known.get("run")) for known in facts]
        if any(isinstance(judge, Mapping) and judge.get("run") == run for judge, run in judges):
            yield f"{name}: is its own judge, and likes its text too well"


def _real(result: SuiteResult, labels: Sequence[str]) -> dict[str, Measurement]:
    """The numbers of real text; those of the first of the sets that has them."""
    every = (
        {
            name.removeprefix(REAL): number
            for name, number in found.measurements.items()
            if name.startswith(REAL)
        }
        for found in (result.results[label] for label in labels)
    )
    return next((found for found in every if {NLL, ENTROPY} <= found.keys()), {})
