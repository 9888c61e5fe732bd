"""What a reader must know of the runs that are compared, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mdmkit.comparison.comparable import FEW, Ground
from mdmkit.comparison.groups import Method
from mdmkit.comparison.method_curves import pairing
from mdmkit.comparison.runs import LoadedRun
from mdmkit.comparison.settings import Settings


def cautions(methods: Sequence[Method], ground: Ground, settings: Settings) -> list[str]:
    """Notes on runs, seeds and documents."""
    weights = {run.provenance.get("ema") for method in methods for run in method.runs}
    mixed = ["some runs were validated with averaged weights and some without"]
    return [
        *([] if settings.cooled else _unfinished(methods)),
        *_of_seeds(methods, ground),
        *_of_pairs(methods),
        *_of_branches(methods),
        *_of_clusters(ground),
        *(mixed if len(weights) > 1 else []),
    ]


def covers(seeds: Sequence[int], ground: Ground) -> str:
    """Whose variation a difference covers.

    Args:
        seeds: how many there are on each side.
        ground: what the runs were validated on.
    """
    what = [f"{ground.clusters} {ground.kind}"] if ground.clusters > 1 else []
    if max(seeds) > 1:
        alone = " (of one side alone)" if min(seeds) == 1 else ""
        what.append(f"{' and '.join(map(str, seeds))} seeds{alone}")
    return ", ".join(what) or "nothing"


def ground_facts(runs: Sequence[LoadedRun], ground: Ground) -> dict[str, Any]:
    """What the runs were validated on, as plain JSON."""
    masked = next((run for run in runs if not run.exact), runs[0])
    return {
        "data": dict(masked.provenance.get("data", {})),
        "split": masked.provenance.get("split"),
        "seed": masked.provenance.get("seed"),
        "blocks": len(ground.blocks),
        "documents": len(np.unique(masked.table.documents)),
        "clusters": {"kind": ground.kind, "count": ground.clusters},
        "tokens": float(ground.tokens.sum()),
        "draws": masked.nats.shape[-1],
    }


def _unfinished(methods: Sequence[Method]) -> Iterator[str]:
    for method in methods:
        for run in method.runs:
            if not run.finished:
                yield (
                    f"{method.label}: {run.directory.name} stands at step {run.steps[-1]} of "
                    f"{run.budget}; used as far as it goes"
                )


def _of_seeds(methods: Sequence[Method], ground: Ground) -> Iterator[str]:
    for method in methods:
        seeds = {variant.seeds for variant in method.variants}
        if max(map(len, seeds)) == 1:
            yield f"{method.label}: one seed, so its intervals know of {ground.kind} alone"
        elif len(seeds) > 1:
            yield f"{method.label}: its learning rates or budgets have unequal seeds"


def _of_pairs(methods: Sequence[Method]) -> Iterator[str]:
    first, *others = methods
    if any(len(variant.runs) == 1 for method in methods for variant in method.variants):
        return
    for method in others:
        if pairing(method.variants[0].runs) != pairing(first.variants[0].runs):
            yield (
                f"{method.label} and {first.label} are not paired by seed: their seeds, data or "
                "batch differ"
            )


def _of_branches(methods: Sequence[Method]) -> Iterator[str]:
    for method in methods:
        for variant in method.variants:
            points = [
                (run.branch["from"], run.branch["step"]) for run in variant.runs if run.branch
            ]
            if len(set(points)) < len(points):
                yield (
                    f"{method.label}: several of its seeds branch off from one run at one step, so "
                    "they differ in less than seeds do, and the errors over seeds are too small"
                )
                break


def _of_clusters(ground: Ground) -> Iterator[str]:
    if ground.clusters == 1:
        yield (
            "the validation text is one document, so the intervals know nothing of the text; "
            "--clusters blocks takes its blocks for independent"
        )
    elif ground.clusters < FEW:
        yield f"{ground.clusters} {ground.kind} are few for a bootstrap: the intervals are rough"
