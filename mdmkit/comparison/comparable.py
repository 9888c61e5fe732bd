"""Which runs can be compared: those that were validated on the same tokens with the same masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from mdmkit.comparison.resampling import Integers
from mdmkit.comparison.runs import LoadedRun
from mdmkit.comparison.smoothing import Floats
from mdmkit.errors import MdmkitError
from mdmkit.recipe import differing_keys

FEW = 10
"""Fewer clusters than that make a poor bootstrap, which is then said."""


@frozen(kw_only=True, eq=False)
class Ground:
    """What all runs were validated on.

    Attributes:
        blocks: ``[N]``, numbers of the blocks in their split.
        tokens: ``[N]``, the scored tokens of each.
        cluster: ``[N]``, the number of each block's cluster, from 0.
        clusters: how many there are.
        kind: what they are: documents or blocks.
    """

    blocks: Integers
    tokens: Floats
    cluster: Integers
    clusters: int
    kind: str


def require_comparable(runs: Sequence[LoadedRun]) -> None:
    """Refuse runs of which two were not validated on the same tokens with the same masks.

    Raises:
        MdmkitError: naming two runs and everything in which their validations differ.
    """
    first = runs[0]
    masked = next((run for run in runs if not run.exact), first)
    for run in runs:
        problems = list(_differences(first, run))
        if not run.exact:
            problems += [p for p in _mask_differences(masked, run) if p not in problems]
        if problems:
            other = first if any(_differences(first, run)) else masked
            raise MdmkitError(
                f"{other.directory} and {run.directory} cannot be compared: their validations "
                "differ in\n"
                + "\n".join(f"  {problem}" for problem in problems)
                + "\nCompare runs with the same data, tokenizer and packing, and the same "
                "train.validate_blocks and train.validate_draws"
            )


def common_ground(runs: Sequence[LoadedRun], kind: str) -> Ground:
    """What comparable runs were validated on, and the clusters that are resampled."""
    table = runs[0].table
    units = table.documents if kind == "documents" else table.blocks
    known, cluster = np.unique(units, return_inverse=True)
    return Ground(
        blocks=table.blocks,
        tokens=table.tokens.mean(-1),
        cluster=cluster.astype(np.int64),
        clusters=len(known),
        kind=kind,
    )


def _differences(a: LoadedRun, b: LoadedRun) -> Iterator[str]:
    yield from differing_keys(_measured(a), _measured(b))
    pairs = (
        ("the numbers of the blocks", a.table.blocks, b.table.blocks),
        ("the documents of the blocks", a.table.documents, b.table.documents),
        ("the scored tokens", a.table.tokens.mean(-1), b.table.tokens.mean(-1)),
    )
    for what, left, right in pairs:
        if not np.array_equal(left, right):
            yield f"{what} ({len(left)} and {len(right)} blocks)"


def _mask_differences(a: LoadedRun, b: LoadedRun) -> Iterator[str]:
    left, right = a.table.masked, b.table.masked
    if left.shape != right.shape:
        yield f"the draws of a block: {left.shape[1]} -> {right.shape[1]}"
    elif not np.array_equal(left, right):
        yield "the masks: the numbers of masked tokens are not the same"


def _measured(run: LoadedRun) -> dict[str, Any]:
    """What was measured, without where it lies: text and tokenizer have fingerprints."""
    data: Mapping[str, Any] = run.provenance.get("data", {})
    return {
        "split": run.provenance.get("split"),
        "seed": run.provenance.get("seed"),
        "data": {key: value for key, value in data.items() if key != "corpus"},
    }
