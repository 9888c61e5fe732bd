"""How noisy are the estimators of the NELBO? Their Monte-Carlo variance, at equal forwards.

    mdmkit run quickstart_bell
    python benchmarks/nelbo_variance.py runs/quickstart_bell-<hash>

The text is fixed: `--blocks` blocks of the validation split, evenly spaced. Each estimator measures
it `--replicates` times with other random numbers. With n draws of each of N blocks:

- per sequence: the mean over blocks of the variance of the block's estimate (nats per token)², × n;
- at corpus level: the variance of the estimate of all blocks, × n·N.

Both are variances per forward, so that estimators with different n compare. The baseline is MDLM's
(arXiv 2406.07524): one t a sequence, jittered over the batch of all blocks, eps = 0.001.

Besides the estimators that `nelbo` has there are steps between them, and what was tried and left
out. The results go to ``benchmarks/results/nelbo_variance.json``, one entry a run and setting.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor

from mdmkit.builtin.evaluators.nelbo import designs
from mdmkit.builtin.evaluators.nelbo.control import PRIOR, PRIOR_DRAWS
from mdmkit.builtin.evaluators.nelbo.designs import DESIGNS, Ask, Design, Masks
from mdmkit.builtin.evaluators.nelbo.errors import error_of_draws
from mdmkit.builtin.evaluators.nelbo.neighbours import NeighbourCounts, count_neighbours
from mdmkit.builtin.evaluators.nelbo.rounds import Round, estimates
from mdmkit.builtin.evaluators.pairs import Deal, evenly_spaced
from mdmkit.diffusion import uniform_subset
from mdmkit.environment import environment
from mdmkit.evaluation.contexts import trained_context
from mdmkit.evaluation.run import open_trained
from mdmkit.files import write_json
from mdmkit.protocols import EvaluationContext
from mdmkit.values import Batch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "nelbo_variance.json"
BASELINE = "time"
RESAMPLES = 1000
CURVE = (0, 1, 2)  # which features of the control variate: the mask rate alone,
UNIGRAM = (0, 1, 2, 6, 9)  # and what the token costs by itself
EVERY = tuple(range(12))


@frozen(kw_only=True)
class Candidate:
    """An estimator that is tried.

    Attributes:
        design: how masks are made.
        draws: n.
        columns: the features of its control variate.
        eps: below which no time is drawn.
        says: what it is.
    """

    design: Design
    draws: int = 1
    columns: tuple[int, ...] = ()
    eps: float = 0.0
    says: str = ""


def uniform_count(ask: Ask) -> Masks:
    """Counts uniform on 1..n."""
    n = ask.scored.sum(-1)
    k = (ask.draws.of(ask.times) * n).ceil().long()
    noise = ask.draws.uniform("nelbo/mask", ask.scored.shape[-1])
    return Masks(mask=uniform_subset(noise, k, ask.scored), factor=n.double() / k)


def windows(ask: Ask) -> Masks:
    """As `designs.controlled`, but the draws of a block take turns in one shuffled order."""
    plain, draws = designs.controlled(ask), ask.times.shape[1]
    n = ask.scored.sum(-1)
    rates = designs.allocated_rate(ask.times[ask.draws.place])  # [B, n draws]
    counts = (rates * n[:, None]).ceil().clamp(min=1).long()
    before = counts.cumsum(-1) - counts
    start = before.gather(1, ask.draws.draw[:, None])[:, 0] % n
    noise = ask.draws.uniform("nelbo/mask", ask.scored.shape[-1], group=draws)
    rank = noise.masked_fill(~ask.scored, torch.inf).argsort(-1).argsort(-1)
    own = counts.gather(1, ask.draws.draw[:, None])
    mask = ((rank - start[:, None]) % n[:, None] < own) & ask.scored
    return Masks(mask=mask, factor=plain.factor)


def candidates() -> Mapping[str, Candidate]:
    """All that is measured, by name."""
    found: dict[str, Candidate] = {
        "time": Candidate(design=DESIGNS["time"], eps=1e-3, says="MDLM: t jittered over the batch"),
        "count": Candidate(design=DESIGNS["count"], says="uniform counts, stratified"),
        "count, n=8": Candidate(design=DESIGNS["count"], draws=8),
        "pairs, n=2": Candidate(design=DESIGNS["pairs"], draws=2, says="k and its complement"),
        "pairs, n=8": Candidate(design=DESIGNS["pairs"], draws=8),
    }
    even = Design(masks=uniform_count, controlled=True)
    allocated = DESIGNS["controlled"]
    steps = {
        "count + curve": (even, CURVE, "minus a + b·r + c·r², fitted on the other half"),
        "count + neighbours": (even, EVERY, "minus what the neighbours let expect"),
        "allocated + curve": (allocated, CURVE, "counts as often as they are noisy"),
        "allocated + unigram": (allocated, UNIGRAM, "and what a token costs by itself"),
        "controlled": (allocated, EVERY, "and what its neighbours let expect"),
    }
    for name, (design, columns, says) in steps.items():
        found[name] = Candidate(design=design, columns=columns, says=says)
    for n in (2, 8):
        found[f"controlled, n={n}"] = Candidate(design=allocated, columns=EVERY, draws=n)
    found["controlled, pairs, n=2"] = Candidate(
        design=evolve(DESIGNS["pairs"], controlled=True),
        columns=EVERY,
        draws=2,
        says="control variate with complementary pairs; left out",
    )
    found["controlled, windows, n=8"] = Candidate(
        design=evolve(allocated, masks=windows, group=8),
        columns=EVERY,
        draws=8,
        says="a block's draws mask different tokens as far as possible; left out",
    )
    return found


def one_replicate(
    candidate: Candidate,
    context: EvaluationContext,
    batches: Callable[[Tensor], Batch],
    blocks: Tensor,
    counts: NeighbourCounts,
) -> Tensor:
    """The estimates of one replicate, ``[N, n]`` nats."""
    design = candidate.design
    part = Round.start(
        context,
        design,
        counts=counts if design.controlled else None,
        sampling_eps=candidate.eps,
        blocks=blocks,
        draws=candidate.draws,
        number=0,
    )
    deal = Deal(
        pairs=len(blocks) * candidate.draws,
        batch_size=context.batch_size,
        rank=0,
        world_size=1,
    )
    for index in range(len(deal)):
        pairs, weights = deal.batch(index)
        batch = batches(pairs // candidate.draws)
        part.measure(pairs, weights, batch, batch)
    found = part.table.compute()
    if design.controlled:
        kept = torch.tensor(candidate.columns)
        rows = torch.cat([kept, torch.tensor([found.gram.shape[-1] - 1])])
        gram = found.gram[:, rows][:, :, rows]
        found = evolve(found, differences=found.differences[:, kept], gram=gram)
        # the prior is about all features together
        worth = PRIOR_DRAWS if candidate.columns == EVERY else 1e-3
        return estimates([found], len(blocks), prior=PRIOR[kept], worth=worth)
    return estimates([found], len(blocks))


def summary(nats: Tensor, tokens: Tensor, draws: int) -> dict[str, Any]:
    """Variances per forward of ``nats [R, N]``, of N blocks with `tokens` tokens each."""
    per_sequence = (nats / tokens).var(0).mean() * draws
    corpus = (nats.sum(-1) / tokens.sum()).var() * draws * nats.shape[1]
    means = nats.sum(-1) / tokens.sum()
    return {
        "per_sequence": float(per_sequence),
        "corpus": float(corpus),
        "nelbo_per_token": float(means.mean()),
        "error_of_mean": float(means.std() / math.sqrt(len(means))),
    }


def resampled(nats: Tensor, tokens: Tensor, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bootstrap over replicates of both variances, ``[RESAMPLES]`` each."""
    source = torch.Generator().manual_seed(seed)
    count = len(nats)
    picks = torch.randint(0, count, (RESAMPLES, count), generator=source)
    sequence, corpus = [], []
    means = nats.sum(-1) / tokens.sum()
    scaled = nats / tokens
    for pick in picks:
        sequence.append(scaled[pick].var(0).mean() * draws)
        corpus.append(means[pick].var() * draws * nats.shape[1])
    return torch.stack(sequence), torch.stack(corpus)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--only", nargs="*", help="names of estimators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    opened = open_trained(asked.run)
    context = trained_context(opened, batch_size=256)
    source = opened.blocks(asked.split)
    blocks = evenly_spaced(len(source), asked.blocks)
    text = source.batch(blocks)
    tokens = text.scored().sum(-1).double()
    counts = count_neighbours(source)

    def batches(places: Tensor) -> Batch:
        real = None if text.real is None else text.real[places]
        maskable = None if text.maskable is None else text.maskable[places]
        return Batch(tokens=text.tokens[places], real=real, maskable=maskable)

    results: dict[str, Any] = {}
    drawn: dict[str, tuple[Tensor, Tensor]] = {}
    for number, (name, candidate) in enumerate(candidates().items()):
        if asked.only and name not in asked.only:
            continue
        replicates = max(asked.replicates // (2 if candidate.draws > 2 else 1), 2)
        found, claimed = [], []
        for seed in range(replicates):
            here = evolve(context, seed=1000 * number + seed)
            nats = one_replicate(candidate, here, batches, blocks, counts)
            found.append(nats.mean(-1))
            error = error_of_draws(nats, candidate.design.group, candidate.draws)
            claimed.append(math.nan if error is None else error / float(tokens.sum()))
        nats = torch.stack(found)
        results[name] = {
            "says": candidate.says,
            "draws": candidate.draws,
            "replicates": replicates,
            **summary(nats, tokens, candidate.draws),
        }
        drawn[name] = resampled(nats, tokens, candidate.draws, seed=number)
        if not math.isnan(claimed[0]):
            actual = float((nats.sum(-1) / tokens.sum()).std())
            rms = float(torch.tensor(claimed).square().mean().sqrt())
            results[name]["claimed_over_actual_error"] = rms / actual
        for key, index in (("per_sequence", 0), ("corpus", 1)):
            results[name][f"{key}_error"] = float(drawn[name][index].std())
            if BASELINE in drawn:
                base, own = drawn[BASELINE][index], drawn[name][index]
                results[name][f"{key}_gain"] = results[BASELINE][key] / results[name][key]
                results[name][f"{key}_gain_error"] = float((base / own).std())
        print(name, json.dumps(results[name]), flush=True)
    kept = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    kept[f"{opened.recipe.run.name}, {asked.split}, {len(blocks)} blocks"] = {
        "command": "python benchmarks/nelbo_variance.py "
        + " ".join(["<run>", *(part for part in sys.argv[1:] if not part.startswith("/"))]),
        "run": opened.facts,
        "length": opened.recipe.data.length,
        "vocabulary": opened.tokenizer.vocab.size,
        "blocks": len(blocks),
        "environment": environment(opened.device),
        "unit": "(nats/token)² × forwards",
        "estimators": results,
    }
    write_json(asked.out, kept)


if __name__ == "__main__":
    main()
