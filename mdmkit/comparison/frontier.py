"""The generation frontier: what grids of samplers found, run by run, ready to be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import Factory, asdict, evolve, frozen

from mdmkit.choices import USE
from mdmkit.comparison.matched_entropy import Matched, match
from mdmkit.comparison.step_error import StepError, step_errors
from mdmkit.recipe_files import key_path
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.suite_job import SuiteResult

NLL, ENTROPY, CALLS = "generative_nll", "unigram_entropy", "network_evaluations"
REAL = "real_"
TEMPERATURE = "temperature"
GROUND = ("tokenizer_fingerprint", "judge", "length")
"""What texts must have in common to be compared, by the keys of provenance."""


@frozen(kw_only=True)
class GeneratedText:
    """One set: how text was made, and what was found of it.

    Attributes:
        run: the directory's name.
        label: of the set.
        grid: its grid; the label for a set by itself.
        sampler: its name and its options.
        varied: what its grid varies, by the last name of the option.
        numbers: of the generated text.
        ground: what it was measured with; see `GROUND`.
        best: whether no other text of the run has a lower NLL with no less entropy and no more
            calls.
    """

    run: str
    label: str
    grid: str
    sampler: Mapping[str, Any]
    varied: Mapping[str, Any]
    numbers: Mapping[str, Measurement]
    ground: Mapping[str, Any] = Factory(dict)
    best: bool = False

    @property
    def name(self) -> str:
        """The sampler's name, and the grid's where that is another."""
        use = str(self.sampler.get(USE, ""))
        return use if self.grid == use else f"{use} ({self.grid})"

    @property
    def curve(self) -> str:
        """All texts that differ in nothing but the temperature are on one curve."""
        others = [f"{key} {value}" for key, value in self.varied.items() if key != TEMPERATURE]
        return ", ".join([self.name, *others])

    @property
    def temperature(self) -> float:
        """Of the sampler; 1 where it has none."""
        return float(self.sampler.get(TEMPERATURE, 1.0))

    @property
    def nll(self) -> Measurement:
        """Of the judge, nats per token of the judge's."""
        return self.numbers[NLL]

    @property
    def entropy(self) -> Measurement:
        """Of the unigrams of a text, nats."""
        return self.numbers[ENTROPY]

    @property
    def calls(self) -> Measurement:
        """Of the network."""
        return self.numbers[CALLS]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {**asdict(self), "curve": self.curve}


@frozen(kw_only=True)
class Frontier:
    """What several runs came to on a suite with grids.

    Attributes:
        suite: its name.
        title: in words.
        texts: what was generated, run by run.
        real: the numbers of real text, by run.
        matched: the NLLs at equal entropies.
        steps: the error of few steps, as predicted and as judged.
        cautions: what is not comparable, in words.
    """

    suite: str
    title: str
    texts: Sequence[GeneratedText]
    real: Mapping[str, Mapping[str, Measurement]]
    matched: Sequence[Matched]
    steps: Sequence[StepError]
    cautions: Sequence[str] = ()

    @classmethod
    def of(cls, results: Sequence[SuiteResult]) -> Frontier:
        """Bring together what runs came to on the same suite."""
        texts = [text for result in results for text in marked(list(_texts(result)))]
        real = {text.run: _real(result) for result in results for text in _texts(result)}
        return cls(
            suite=results[0].suite.name,
            title=results[0].suite.title,
            texts=texts,
            real=real,
            matched=match(texts, {run: found[ENTROPY] for run, found in real.items() if found}),
            steps=[row for result in results for row in step_errors(result, texts)],
            cautions=[*_cautions(texts), *_own_judges(results)],
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
    return bool(suite.grids) and any(True for result in results for _ in _texts(result))


def generated_labels(result: SuiteResult) -> list[str]:
    """The sets in which text is generated and judged."""
    return [text.label for text in _texts(result)]


def _texts(result: SuiteResult) -> Iterator[GeneratedText]:
    suite = result.suite
    for label, found in result.results.items():
        if not {NLL, ENTROPY, CALLS} <= found.measurements.keys():
            continue
        kind, name = suite.table_of(label)
        values = suite.grids[name].sets[label] if kind == "grids" else {}
        plain = result.record.suite["sets"][label]["evaluator"]
        yield GeneratedText(
            run=result.directory.name,
            label=label,
            grid=name,
            sampler=plain.get("sampler") or result.record.settings["sampler"],
            varied={(key_path(option) or (option,))[-1]: value for option, value in values.items()},
            numbers={
                key: number
                for key, number in found.measurements.items()
                if not key.startswith(REAL)
            },
            ground={key: found.provenance.get(key) for key in GROUND},
        )


def _cautions(texts: Sequence[GeneratedText]) -> Iterator[str]:
    """Runs that are not compared with the first, and why."""
    for run in dict.fromkeys(text.run for text in texts):
        ground = next(text.ground for text in texts if text.run == run)
        other = [key for key in GROUND if ground.get(key) != texts[0].ground.get(key)]
        if other:
            yield f"{run}: not compared with {texts[0].run}: it differs in {', '.join(other)}"


def _own_judges(results: Sequence[SuiteResult]) -> Iterator[str]:
    """Runs that judge their own text."""
    for result in results:
        facts = [result.results[label].provenance for label in generated_labels(result)]
        judges = [(known.get("judge"), known.get("run")) for known in facts]
        if any(isinstance(judge, Mapping) and judge.get("run") == run for judge, run in judges):
            yield f"{result.directory.name}: is its own judge, and likes its text too well"


def _real(result: SuiteResult) -> dict[str, Measurement]:
    """The numbers of real text; those of the first set that has them."""
    every = (
        {
            name.removeprefix(REAL): number
            for name, number in found.measurements.items()
            if name.startswith(REAL)
        }
        for found in result.results.values()
    )
    return next((found for found in every if {NLL, ENTROPY} <= found.keys()), {})


def marked(texts: Sequence[GeneratedText]) -> list[GeneratedText]:
    """Texts of one run, with the best ones marked."""
    return [evolve(text, best=not any(_beats(other, text) for other in texts)) for text in texts]


def _beats(one: GeneratedText, other: GeneratedText) -> bool:
    """Whether `one` is nowhere worse, and somewhere better."""
    pairs = [
        (one.nll.value, other.nll.value),
        (-one.entropy.value, -other.entropy.value),
        (one.calls.value, other.calls.value),
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
