"""The contracts of what surrounds training: corpora, evaluators, trackers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from mdmkit.errors import DataError
from mdmkit.protocols import (
    Corpus,
    Evaluation,
    EvaluationContext,
    Evaluator,
    RunInfo,
    Split,
    Tracker,
)
from mdmkit.testing.errors import Contract
from mdmkit.testing.evaluation import evaluation_context
from mdmkit.values import HeatMap, Measurement, Metrics, Picture


def check_corpus(
    corpus: Corpus, *, splits: Iterable[Split] | None = None, documents: int = 100
) -> None:
    """Read the first documents of each split twice, and the facts about them.

    Args:
        corpus: the component.
        splits: the splits that it has here and now; None for those that it does not refuse with a
            `DataError`, of which there must be one.
        documents: how many to read.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("corpus", corpus)
    splits = _splits_of(contract, corpus) if splits is None else splits
    texts: dict[Split, list[str]] = {}
    for split in splits:
        try:
            first = texts[split] = list(itertools.islice(corpus.documents(split), documents))
            again = list(itertools.islice(corpus.documents(split), documents))
            prints = (corpus.fingerprint(split), corpus.fingerprint(split))
            facts = corpus.describe(split)
        except DataError as error:
            contract.require(False, f"the split {split} can be had", str(error))
            return
        right = bool(first) and all(isinstance(text, str) for text in first)
        contract.require(right, "documents are texts", f"{split}: {first[:1]!r}")
        contract.require(first == again, "the order never changes", f"{split}: other documents")
        contract.require(
            isinstance(prints[0], str) and prints[0] and prints[0] == prints[1],
            "the fingerprint is a text that stays the same",
            f"{split}: {prints}",
        )
        _require_json(contract, "describe", facts)
    for one, two in itertools.combinations(texts, 2):
        contract.require(
            texts[one] == texts[two] or corpus.fingerprint(one) != corpus.fingerprint(two),
            "the fingerprint differs where the documents do",
            f"{one} and {two} share {corpus.fingerprint(one)}",
        )


def _splits_of(contract: Contract, corpus: Corpus) -> list[Split]:
    """The splits that can be had."""
    there: list[Split] = []
    refusals = []
    for split in get_args(Split):
        try:
            next(iter(corpus.documents(split)), None)
        except DataError as error:
            refusals.append(f"{split}: {error}")
        else:
            there.append(split)
    clause = "a split can be had (else check an example of the corpus that has one)"
    contract.require(there, clause, "; ".join(refusals))
    return there


def check_evaluator(
    options: Evaluator, *, context: Callable[[int, int], EvaluationContext] | None = None
) -> None:
    """Run the evaluation of a small random network twice, and look at its numbers.

    Args:
        options: the evaluator's options.
        context: ``context(rank, world_size)``; made up if None.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    contract = Contract.of("evaluator", options)
    make = context or evaluation_context
    try:
        options.build(make(0, 1))
    except DataError as error:
        clause = (
            "its data can be had (an evaluator that brings its own is checked by examples whose "
            "data is there: contract_examples(directory) may write files)"
        )
        contract.require(False, clause, str(error))
    _check_evaluation(contract, options, make)
    if context is None:  # a block source need not know its documents
        _check_evaluation(contract, options, partial(evaluation_context, documents=False))


def _check_evaluation(
    contract: Contract, options: Evaluator, make: Callable[[int, int], EvaluationContext]
) -> None:
    lengths = [len(options.build(make(rank, 2))) for rank in range(2)]
    contract.require(lengths[0] == lengths[1], "len is equal on every rank", repr(lengths))
    found = []
    for _ in range(2):
        evaluation = options.build(make(0, 1))
        index = 0
        while index < len(evaluation):  # it may grow
            evaluation.update(index)
            index += 1
        found.append(dict(evaluation.compute()))
        _require_pictures(contract, evaluation)
        _require_json(contract, "provenance", evaluation.provenance)
    contract.require(found[0], "there is at least one number", "none")
    for name, number in found[0].items():
        right = isinstance(number, Measurement) and math.isfinite(number.value)
        contract.require(
            right and math.isfinite(number.stderr) and number.stderr >= 0,
            "every number is finite and comes with its standard error",
            f"{name}: {number!r}",
        )
    contract.require(
        found[0] == found[1], "the same seed gives the same numbers", f"{found[0]}, then {found[1]}"
    )


def _require_pictures(contract: Contract, evaluation: Evaluation) -> None:
    clause = "pictures() gives names and pictures (mdmkit.values.Picture or HeatMap)"
    try:
        drawn = dict(getattr(evaluation, "pictures", dict)())
    except (TypeError, ValueError) as error:
        contract.require(False, clause, str(error))
        return
    right = all(isinstance(k, str) and isinstance(p, Picture | HeatMap) for k, p in drawn.items())
    contract.require(right, clause, repr(drawn))


def check_tracker(
    options: Tracker,
    directory: Path | None = None,
    *,
    read: Callable[[Path], Sequence[Metrics]] | None = None,
) -> None:
    """Log a few lines, go back to an earlier step as a resumed run does, and log again.

    Args:
        options: the tracker's options.
        directory: an empty directory, which plays the run's; a temporary one if None.
        read: reads back what was tracked; without it only the calls are tried.

    Raises:
        ContractError: naming the clause that does not hold.
    """
    if directory is None:
        with TemporaryDirectory(prefix="mdmkit-contract-") as temporary:
            check_tracker(options, Path(temporary), read=read)
        return
    contract = Contract.of("tracker", options)
    run = RunInfo(directory=directory, name="check", recipe={"run": {"name": "check"}})
    lines = [
        {"step": step, "tokens": 64 * step, "seconds": 0.5 * step, "train/loss": 3.0 / step}
        for step in range(1, 6)
    ]
    for resumed, logged in ((0, lines[:4]), (2, lines[2:])):
        tracking = options.build(run)
        tracking.resume(resumed)
        for line in logged:
            tracking.log(line)
        tracking.close()
    if read is not None:
        kept = [dict(line) for line in read(directory)]
        contract.require(
            kept == lines,
            "lines past the step given to resume are forgotten, the others kept",
            f"steps {[line.get('step') for line in kept]} after logging 1-4, resuming at 2 and "
            "logging 3-5",
        )


def _require_json(contract: Contract, name: str, value: Mapping[str, Any]) -> None:
    clause = f"{name} is plain JSON"
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        contract.require(False, clause, str(error))
