"""The sets of a suite, opened with a run's tokenizer before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from attrs import field, frozen

from mdmkit.data.detokenizers import DetokenizerName
from mdmkit.data.packing import PackingOptions
from mdmkit.data.tokenizers import TokenizerOptions
from mdmkit.errors import DataError, RecipeError
from mdmkit.evaluation.run import TrainedRun
from mdmkit.problems import dotted
from mdmkit.protocols import BlockSource, Corpus, Evaluation, EvaluationContext, Split
from mdmkit.recipe import Data, Recipe
from mdmkit.suites import Suite, SuiteSet

NO_DETOKENIZER: DetokenizerName = "none"

_DATA = re.compile(r"\bdata\.(corpus|packing|length|detokenizer)\b")


@frozen(kw_only=True)
class SetData:
    """What is needed of a table ``[data]``, for the text of a set."""

    length: int
    corpus: Corpus
    tokenizer: TokenizerOptions
    packing: PackingOptions
    detokenizer: DetokenizerName


@frozen(kw_only=True, eq=False)
class ReadySet:
    """A set whose data is there.

    Attributes:
        label: its name in the suite.
        context: in which it is measured.
        evaluation: the live evaluator.
        sources: what was opened for it, by split.
    """

    label: str
    context: EvaluationContext
    evaluation: Evaluation
    sources: Mapping[str, BlockSource]

    def opened(self) -> dict[str, Any]:
        """What is known of the data before anything is measured, as plain JSON."""
        return {
            "evaluation": dict(self.evaluation.provenance),
            "blocks": {split: dict(found.provenance) for split, found in self.sources.items()},
        }


@frozen(kw_only=True, eq=False)
class _Opener:
    """Opens splits of a set, and remembers them."""

    trained: TrainedRun
    data: SetData
    sources: dict[str, BlockSource] = field(factory=dict)

    def __call__(self, split: Split) -> BlockSource:
        if split not in self.sources:
            self.sources[split] = self.trained.open(self.data, split)
        return self.sources[split]


def applicable(suite: Suite, recipe: Recipe) -> Suite:
    """The suite without the sets whose evaluator says that it is not for this run.

    Raises:
        RecipeError: where none is left.
    """
    kept = {label: entry for label, entry in suite.sets.items() if _applies(entry, recipe)}
    if not kept:
        raise none_applies(suite, suite.sets)
    return attrs.evolve(suite, sets=kept)


def none_applies(suite: Suite, labels: Iterable[str]) -> RecipeError:
    """The error where no set of those that are wanted is for the run."""
    return RecipeError(
        f"suite {suite.name}: {suite.named(labels)}: not for this kind of run; expected a run with "
        "another objective, or other sets"
    )


def _applies(entry: SuiteSet, recipe: Recipe) -> bool:
    applies: Callable[[Recipe], bool] | None = getattr(entry.evaluator, "applies", None)
    return applies is None or applies(recipe)


def resolve(suite: Suite, recipe: Recipe) -> Suite:
    """The suite for one run: what a set leaves unset is filled in from the run's recipe.

    Raises:
        RecipeError: naming every set that the run's denoiser cannot read.
    """
    sets = {label: _resolved(entry, recipe.data) for label, entry in suite.sets.items()}
    problems = [
        f"suite {suite.name}: [sets.{label}] {problem}"
        for label, entry in sets.items()
        for problem in _misfits(entry, recipe)
    ]
    if problems:
        raise RecipeError(problems)
    return attrs.evolve(suite, sets=sets)


def _misfits(entry: SuiteSet, recipe: Recipe) -> Iterator[str]:
    denoiser = recipe.denoiser
    if entry.length is not None and entry.length % denoiser.length_multiple:
        yield (
            f"length: the run's denoiser needs a multiple of {denoiser.length_multiple} tokens, "
            f"got {entry.length}"
        )
    needs: frozenset[str] = getattr(entry.packing, "needs", frozenset())
    missing = needs - denoiser.supports
    if missing:
        supported = ", ".join(sorted(denoiser.supports)) or "nothing"
        yield (
            f"packing: needs a denoiser that supports {', '.join(sorted(missing))}; the run's "
            f"supports {supported}"
        )
    if hasattr(entry.evaluator, "check"):
        yield from (f"evaluator: {message}" for message in entry.evaluator.check(recipe))


def _resolved(entry: SuiteSet, data: Data) -> SuiteSet:
    own = NO_DETOKENIZER if entry.corpus else data.detokenizer
    return attrs.evolve(
        entry,
        corpus=entry.corpus or data.corpus,
        detokenizer=entry.detokenizer or own,
        packing=entry.packing or data.packing,
        length=entry.length or data.length,
    )


def open_sets(
    suite: Suite, trained: TrainedRun, context: EvaluationContext
) -> tuple[dict[str, ReadySet], dict[str, str]]:
    """Build every evaluator of a suite, which opens what it reads.

    Args:
        suite: from `resolve`.
        trained: the run.
        context: of the run; every set gets it with blocks of its own text.

    Returns:
        The sets that are ready, and for the others why they cannot be had.

    Raises:
        RecipeError: naming every set whose evaluator refuses its options.
    """
    ready: dict[str, ReadySet] = {}
    missing: dict[str, str] = {}
    refused: dict[str, list[str]] = {}
    for label, entry in suite.sets.items():
        try:
            ready[label] = _open(label, entry, trained, context)
        except DataError as error:
            missing[label] = _in_suite(suite, label, error.fact)
        except RecipeError as error:
            for problem in error.problems:
                refused.setdefault(_in_suite(suite, label, problem), []).append(label)
    if refused:
        raise RecipeError(
            f"suite {suite.name}: {suite.named(labels)}: {problem}"
            for problem, labels in refused.items()
        )
    return ready, missing


def _in_suite(suite: Suite, label: str, text: str) -> str:
    """Words of a component, which knows itself as one of a recipe: in a suite tables differ."""
    table = dotted(suite.table_of(label))
    text = _DATA.sub(rf"{table}.\1", text)
    return text.replace("evaluators.<label>", f"{table}.evaluator")


def _open(label: str, entry: SuiteSet, trained: TrainedRun, context: EvaluationContext) -> ReadySet:
    if entry.corpus is None or entry.packing is None or entry.length is None:
        raise ValueError(f"set {label!r} is not resolved")
    data = SetData(
        length=entry.length,
        corpus=entry.corpus,
        tokenizer=trained.recipe.data.tokenizer,
        packing=entry.packing,
        detokenizer=entry.detokenizer or NO_DETOKENIZER,
    )
    opener = _Opener(trained=trained, data=data)
    own = attrs.evolve(context, blocks=opener, length=entry.length)
    return ReadySet(
        label=label,
        context=own,
        evaluation=entry.evaluator.build(own),
        sources=opener.sources,
    )


def missing_error(suite: Suite, missing: Mapping[str, str]) -> DataError:
    """One error for all sets that cannot be had, with what to do; a reason is said once."""
    total = len(suite.sets)
    several = "sets" if total != 1 else "set"
    lines = [f"suite {suite.name}: {len(missing)} of {total} {several} cannot be had:"]
    sharing: dict[str, list[str]] = {}
    for label, reason in missing.items():
        sharing.setdefault(reason, []).append(label)
    for reason, labels in sharing.items():
        lines.append(f"  {suite.named(labels)}: {_indented(reason)}")
    tables = dict.fromkeys(suite.table_of(label)[1] for label in missing)
    given = " ".join(f"--source {table}=FILE" for table in tables)
    lines.append(
        f"Run once with network access, or give local files (rows of .jsonl, .csv, .parquet or "
        f"lines of .txt) or folders in the hub's layout: {given}; or measure the others with "
        "--allow-missing"
    )
    error = DataError("\n".join(lines))
    error.everywhere = True
    return error


def _indented(text: str) -> str:
    first, *rest = text.splitlines() or [""]
    return "\n".join([first, *(f"    {line}" for line in rest)])


def same_everywhere(ranks: Iterable[Mapping[str, str]]) -> None:
    """Refuse ranks that miss different sets.

    Raises:
        DataError: naming what a rank lacks.
    """
    first, *others = [set(missing) for missing in ranks]
    for rank, missing in enumerate(others, 1):
        if missing != first:
            odd = ", ".join(sorted(missing ^ first))
            raise DataError(
                f"{odd}: not all processes can read these sets (rank {rank} differs from rank 0); "
                "expected the same files on every machine"
            )
