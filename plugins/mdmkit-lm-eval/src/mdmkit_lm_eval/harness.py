"""Runs tasks of the harness on a run, and says of every number how sure it is."""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen

from mdmkit import MdmkitError
from mdmkit_lm_eval.errors import Items, bootstrap_stderr, draws_stderr
from mdmkit_lm_eval.likelihood import Answer, Key
from mdmkit_lm_eval.model import MdmkitLM
from mdmkit_lm_eval.tasks import first_line

RESAMPLES = 1000

Aggregated = Mapping[str, Any]


@frozen(kw_only=True)
class Number:
    """A metric of a task or a group.

    Attributes:
        task, metric, filter: whose; ``filter`` as the harness calls it.
        value: what the harness says.
        stderr: over documents; None where there is one document, or the harness has none.
        stderr_by: who says so.
        draws_stderr: the part that is due to the draws of masks; 0.0 where nothing is drawn, None
            where it is not known (generated text).
        documents: how many.
        higher_is_better: as the harness has it.
    """

    task: str
    metric: str
    filter: str
    value: float | None
    stderr: float | None
    stderr_by: str
    draws_stderr: float | None
    documents: int
    higher_is_better: bool | None


@frozen(kw_only=True)
class Outcome:
    """What was found.

    Attributes:
        numbers: of tasks, then of groups.
        tasks: version, number of shots, and documents of each task.
        samples: the harness's own record of each document.
    """

    numbers: Sequence[Number]
    tasks: Mapping[str, Mapping[str, Any]]
    samples: Mapping[str, Any]


def run_tasks(lm: MdmkitLM, loaded: Mapping[str, Any], *, limit: float | None = None) -> Outcome:
    """Ask the run all that the tasks ask, and work out their metrics.

    Args:
        lm: the run.
        loaded: from `load_tasks`.
        limit: only so many documents of each task, or this share of them.

    Raises:
        MdmkitError: where a task fails on the run's answers.
    """
    from lm_eval.evaluator import evaluate

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(lm.protocol.seed)
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # no pool of processes for a bootstrap
    with contextlib.redirect_stdout(sys.stderr):  # the harness prints on its way
        try:
            found = evaluate(
                lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=RESAMPLES, log_samples=True
            )
        except MdmkitError:
            raise
        except (ValueError, KeyError, TypeError, ArithmeticError, ImportError) as error:
            raise MdmkitError(
                f"the harness failed on {', '.join(loaded['tasks'])}: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
    return _outcome(lm, loaded, found, limit)


def _outcome(
    lm: MdmkitLM, loaded: Mapping[str, Any], found: Aggregated, limit: float | None
) -> Outcome:
    numbers: list[Number] = []
    for name, task in loaded["tasks"].items():
        numbers += _of_task(lm, name, task, found, limit)
    for name in found.get("groups", {}):
        numbers += _of_group(name, loaded["groups"][name], found, numbers)
    tasks = {
        name: {
            "version": found["versions"].get(name),
            "shots": found["n-shot"].get(name),
            "documents": found["n-samples"][name]["effective"],
            "documents_in_split": found["n-samples"][name]["original"],
            "output": task.OUTPUT_TYPE,
        }
        for name, task in loaded["tasks"].items()
    }
    return Outcome(numbers=numbers, tasks=tasks, samples=found["samples"])


def _of_task(
    lm: MdmkitLM, name: str, task: Any, found: Aggregated, limit: float | None
) -> Iterator[Number]:
    halves = _by_half(lm, name, task, limit)
    for metric, filter, value, stderr in _metrics(found["results"][name]):
        items = [one[metric] for one in found["samples"][name]
                 if one["filter"] == filter and metric in one]  # fmt: skip
        aggregate = task.aggregation().get(metric, np.mean)
        by = "harness"
        if stderr is None and len(items) > 1 and value is not None:
            stderr, by = bootstrap_stderr(items, aggregate), "bootstrap over documents"
        spread = None
        if halves is not None and all(metric in half for half in halves):
            both = Items(all=items, halves=(halves[0][metric], halves[1][metric]))
            spread = draws_stderr(both, aggregate, is_mean=_is_mean(aggregate))
        yield Number(
            task=name,
            metric=metric,
            filter=filter,
            value=value,
            stderr=stderr,
            stderr_by=by,
            draws_stderr=spread,
            documents=len(items),
            higher_is_better=found["higher_is_better"].get(name, {}).get(metric),
        )


def _of_group(
    name: str, group: Any, found: Aggregated, tasks: Sequence[Number]
) -> Iterator[Number]:
    """A group is a function of its tasks, whose draws are taken to be independent."""
    results = {key: dict(value) for key, value in found["results"].items()}
    below = {task.task_name for task in group.get_all_tasks()}
    for metric, filter, value, stderr in _metrics(found["groups"][name]):
        own = [one for one in tasks if one.task in below and (one.metric, one.filter)
               == (metric, filter)]  # fmt: skip
        key, shifts = f"{metric},{filter}", []
        for one in own:
            if one.draws_stderr is not None and one.value is not None:
                there = {**results[one.task], key: one.value + one.draws_stderr}
                moved = group.aggregate({**results, one.task: there}).get(key)
                shifts.append(float(moved) - float(value or 0.0))
        yield Number(
            task=name,
            metric=metric,
            filter=filter,
            value=value,
            stderr=stderr,
            stderr_by="harness",
            draws_stderr=math.hypot(*shifts) if own and len(shifts) == len(own) else None,
            documents=sum(one.documents for one in own),
            higher_is_better=found["higher_is_better"].get(name, {}).get(metric),
        )


def _by_half(
    lm: MdmkitLM, name: str, task: Any, limit: float | None
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]] | None:
    """The items of each metric by either half of the draws; None for generated text."""
    from lm_eval.evaluator_utils import get_sample_size

    by_doc: dict[int, list[tuple[int, Answer]]] = defaultdict(list)
    for request in task.instances:
        answer = lm.answers.get(Key(task=name, doc=request.doc_id, index=request.idx))
        if answer is None:
            return None
        by_doc[request.doc_id].append((request.idx, answer))
    found: tuple[dict[str, list[Any]], ...] = (defaultdict(list), defaultdict(list))
    documents = task.doc_iterator(rank=0, limit=get_sample_size(task, limit), world_size=1)
    for number, doc in documents:
        answers = [answer for _, answer in sorted(by_doc[number], key=lambda pair: pair[0])]
        for half, items in enumerate(found):
            for metric, item in task.process_results(
                doc, [_as_asked(answer, half, task) for answer in answers]
            ).items():
                items[metric].append(item)
    return found[0], found[1]


def _as_asked(answer: Answer, half: int, task: Any) -> Any:
    """An answer by one half of the draws, in the form that the task expects."""
    nats = answer.halves[half]
    return -nats if task.OUTPUT_TYPE == "loglikelihood_rolling" else (-nats, bool(answer.greedy))


def _metrics(results: Aggregated) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Metric, filter, value and standard error of everything that the harness found."""
    for key, value in results.items():
        metric, comma, filter = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            yield metric, filter, _finite(value), _finite(results.get(f"{metric}_stderr,{filter}"))


def _finite(value: Any) -> float | None:
    """A number; None where it is none, or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _is_mean(aggregate: Any) -> bool:
    from lm_eval.api.metrics import mean

    return aggregate in (mean, np.mean)
