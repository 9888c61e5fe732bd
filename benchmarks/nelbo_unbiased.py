"""Are the estimators of the NELBO unbiased? A long run on a trained network, against enumeration.

    python benchmarks/nelbo_unbiased.py runs/quickstart_bell-<hash>

Of some blocks of the validation split twelve adjacent tokens may be masked and are scored, the
others stay visible: then the NELBO is a finite sum over 4,095 masks, which are all tried. Each
estimator measures the same blocks with 10,000 forwards a block; z is the difference from the sum in
standard errors, which are over independent replicates. Results are added to
``benchmarks/results/nelbo_variance.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch
from attrs import evolve
from nelbo_variance import RESULTS, candidates, one_replicate
from torch import Tensor

from mdmkit.builtin.evaluators.nelbo.neighbours import count_neighbours
from mdmkit.builtin.evaluators.pairs import evenly_spaced
from mdmkit.environment import environment
from mdmkit.evaluation.contexts import trained_context
from mdmkit.evaluation.run import open_trained
from mdmkit.files import write_json
from mdmkit.protocols import EvaluationContext
from mdmkit.values import Batch

TOKENS, FIRST = 12, 50
COPIES, REPLICATES = 250, 40


def enumerated(context: EvaluationContext, tokens: Tensor, maskable: Tensor) -> Tensor:
    """Σ_k of the mean cross-entropy of a masked token over all masks of k tokens, ``[N]``."""
    place = maskable[0].nonzero()[:, 0]
    choices = torch.tensor(list(itertools.product([False, True], repeat=len(place))))[1:]
    masks = torch.zeros(len(choices), tokens.shape[1], dtype=torch.bool)
    masks[:, place] = choices
    counts = choices.sum(-1)
    found = []
    for row in tokens:
        sums = []
        for some in masks.split(512):
            wide = maskable[:1].expand(len(some), -1)
            batch = Batch(tokens=row.expand(len(some), -1), maskable=wide)
            nll = context.call(lambda d, b=batch, m=some: context.objective.nll(d, b, m))
            sums.append(nll.sum(-1))
        means = torch.cat(sums) / counts
        found.append(sum(means[counts == k].mean() for k in range(1, len(place) + 1)))
    return torch.stack(found)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    opened = open_trained(asked.run, precision="fp32")
    context = trained_context(opened, batch_size=250)
    source = opened.blocks("validation")
    tokens = source.batch(evenly_spaced(len(source), asked.texts)).tokens
    maskable = torch.zeros(tokens.shape, dtype=torch.bool)
    maskable[:, FIRST : FIRST + TOKENS] = True
    exact = float(enumerated(context, tokens, maskable).mean()) / TOKENS
    counts = count_neighbours(source)
    # the two halves of the blocks, at even and odd places, have the same texts
    copies = torch.arange(asked.texts).repeat_interleave(2).repeat(COPIES // 2)

    def batches(places: Tensor) -> Batch:
        return Batch(tokens=tokens[copies[places]], maskable=maskable[copies[places]])

    results: dict[str, Any] = {}
    for number, (name, candidate) in enumerate(candidates().items()):
        if asked.only is not None and name not in asked.only:
            continue
        # eps > 0 is biased by intention
        unbiased = evolve(candidate, eps=0.0)
        replicates = max(REPLICATES // candidate.draws, 5)
        means = []
        for seed in range(replicates):
            here = evolve(context, seed=100_000 + 1000 * number + seed)
            nats = one_replicate(unbiased, here, batches, torch.arange(len(copies)), counts)
            means.append(float(nats.mean()) / TOKENS)
        found = torch.tensor(means, dtype=torch.float64)
        error = float(found.std()) / math.sqrt(len(found))
        results[name] = {
            "nelbo_per_token": float(found.mean()),
            "error": error,
            "z": (float(found.mean()) - exact) / error,
            "replicates": replicates,
            "forwards_a_text": replicates * COPIES * candidate.draws,
        }
        print(name, json.dumps(results[name]), flush=True)
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    kept["unbiased"] = {
        "command": "python benchmarks/nelbo_unbiased.py <run>",
        "run": opened.facts,
        "texts": asked.texts,
        "scored_tokens": TOKENS,
        "masks_enumerated": 2**TOKENS - 1,
        "enumerated_nelbo_per_token": exact,
        "environment": environment(opened.device),
        "estimators": results,
    }
    write_json(asked.out, kept)


if __name__ == "__main__":
    main()
