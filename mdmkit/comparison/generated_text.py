"""Generated and judged text: what a suite says of one set, and which texts can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import Factory, asdict, evolve, frozen

from mdmkit.choices import USE
from mdmkit.recipe_files import key_path
from mdmkit.suite_grids import short_names
from mdmkit.values import Measurement

if TYPE_CHECKING:
    from mdmkit.evaluation.suite_job import SuiteResult

NLL, ENTROPY, CALLS = "generative_nll", "unigram_entropy", "network_evaluations"
REAL = "real_"
TEMPERATURE, STEPS = "temperature", "steps"
GROUND = ("tokenizer_fingerprint", "judge", "length", "split", "ends_at_eos", "float32_draws")
"""What texts must have in common to be compared, by the keys of provenance."""


@frozen(kw_only=True)
class GeneratedText:
    """One set: how text was made, and what was found of it.

    Attributes:
        run: the directory's name, as `run_names` has it; where not all texts of a run can be
            compared also in which group it is, as in ``masked (length 32)``.
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
        return self.apart_from(TEMPERATURE)

    def apart_from(self, *options: str) -> str:
        """The sampler with all that its grid varies, but for `options`."""
        others = [f"{key} {value}" for key, value in self.varied.items() if key not in options]
        return ", ".join([self.name, *others])

    @property
    def temperature(self) -> float:
        """As varied, else of the sampler or of the one inside of it; 1 where none has it."""
        tables = [self.varied, *tables_of(self.sampler)]
        return float(next((t[TEMPERATURE] for t in tables if TEMPERATURE in t), 1.0))

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


def tables_of(component: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A component as plain data, and those inside of it."""
    yield component
    for value in component.values():
        if isinstance(value, Mapping):
            yield from tables_of(value)


def texts_of(result: SuiteResult, run: str) -> Iterator[GeneratedText]:
    """The sets in which text is generated and judged.

    Args:
        result: of a run.
        run: what it is called.
    """
    suite = result.suite
    for label, found in result.results.items():
        if not {NLL, ENTROPY, CALLS} <= found.measurements.keys():
            continue
        kind, name = suite.table_of(label)
        values = suite.grids[name].sets[label] if kind == "grids" else {}
        names = short_names([key_path(option) or (option,) for option in values])
        plain = result.record.suite["sets"][label]["evaluator"]
        yield GeneratedText(
            run=run,
            label=label,
            grid=name,
            sampler=plain.get("sampler") or result.record.settings["sampler"],
            varied=dict(zip(names, values.values(), strict=True)),
            numbers={
                key: number
                for key, number in found.measurements.items()
                if not key.startswith(REAL)
            },
            ground={key: found.provenance.get(key) for key in GROUND},
        )


def grouped(texts: Sequence[GeneratedText]) -> list[GeneratedText]:
    """Texts of one run, in groups of those that can be compared, the best of each marked."""
    grounds: list[Mapping[str, Any]] = []
    for text in texts:
        if text.ground not in grounds:
            grounds.append(text.ground)
    return [
        evolve(text, run=f"{text.run}{name}")
        for ground, name in zip(grounds, _told_apart(grounds), strict=True)
        for text in marked([text for text in texts if text.ground == ground])
    ]


def _told_apart(grounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what each differs from the others, in words; nothing where there is but one."""
    keys = [key for key in GROUND if any(g.get(key) != grounds[0].get(key) for g in grounds)]
    names = [", ".join(f"{key} {_word(ground.get(key))}" for key in keys) for ground in grounds]
    if len(set(names)) < len(names):
        names = [f"{name}, {number}" for number, name in enumerate(names, 1)]
    return [f" ({name})" if keys else "" for name in names]


def _word(value: Any) -> str:
    """A value of `GROUND`; a judge by its name."""
    if not isinstance(value, Mapping):
        return str(value)
    run = value.get("run")
    return str(run.get("name") if isinstance(run, Mapping) else value.get("model"))


def marked(texts: Sequence[GeneratedText]) -> list[GeneratedText]:
    """Texts that can be compared, with the best ones marked."""
    return [evolve(text, best=not any(_beats(other, text) for other in texts)) for text in texts]


def _beats(one: GeneratedText, other: GeneratedText) -> bool:
    """Whether `one` is nowhere worse, and somewhere better."""
    pairs = [
        (one.nll.value, other.nll.value),
        (-one.entropy.value, -other.entropy.value),
        (one.calls.value, other.calls.value),
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
