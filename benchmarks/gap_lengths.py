"""By what is the length of a gap best chosen? Cut out of held-out text, it is to be found again.

    python benchmarks/gap_lengths.py runs/bell-1-... > benchmarks/results/gap_lengths.json

Every window has a span of 2 to 9 tokens between 16 tokens on either side. All eight lengths are
tried: each is filled by the ancestral sampler and scored in five ways, with the same masks. For
each score: how often the right length has the lowest, how far off the lowest is, and in which
direction.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from mdmkit.builtin.samplers import Ancestral
from mdmkit.diffusion import uniform_subset
from mdmkit.draws import StepDraws, generator
from mdmkit.environment import environment
from mdmkit.evaluation.find_run import find_run
from mdmkit.evaluation.infilling.frames import Frame, Start
from mdmkit.evaluation.infilling.templates import Gap
from mdmkit.evaluation.run import TrainedRun, open_trained
from mdmkit.values import Batch, Generation

AROUND, SHORTEST, LONGEST = 16, 2, 9
SCORES = (
    "given text, gaps masked",
    "filled row, per token",
    "filled row, in nats",
    "given text, gaps filled",
    "generated text, per token",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.5])
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--draws", type=int, default=32)
    asked = parser.parse_args()
    run = open_trained(find_run(asked.run))
    found = {
        f"{temperature:g}": {
            score: summary(torch.tensor(off).double())
            for score, off in measure(run, temperature, asked).items()
        }
        for temperature in asked.temperatures
    }
    plain = {
        "options": {**vars(asked), "run": Path(asked.run).name},
        "facts": run.facts,
        "environment": environment(run.device),
        "temperatures": found,
    }
    print(json.dumps(plain, indent=1))


def measure(run: TrainedRun, temperature: float, asked: argparse.Namespace) -> dict[str, list[int]]:
    """By how many tokens each score is off, window by window."""
    sampler = Ancestral(steps=asked.steps, temperature=temperature)
    source, blocks = generator("gap lengths"), run.blocks("validation")
    rows = torch.randperm(len(blocks), generator=source)[: asked.windows]
    off: dict[str, list[int]] = {score: [] for score in SCORES}
    for number, row in enumerate(rows):
        size = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=source))
        tokens = blocks.batch(row[None]).tokens[0]
        first = int(torch.randint(len(tokens) - 2 * AROUND - LONGEST, (), generator=source))
        left = tuple(tokens[first : first + AROUND].tolist())
        right = tuple(tokens[first + AROUND + size :][:AROUND].tolist())
        gap = Gap(shortest=SHORTEST, longest=LONGEST)
        frame = Frame(pieces=(left, gap, right), where="window")
        tried = []
        for (length,) in frame.lengths():
            start = frame.start((length,), run.tokenizer.vocab.mask_id)
            states = run.generate(sampler, torch.tensor([start.ids]), rows=[number], seed=0)
            tried.append(
                scores(run, start, Generation.last_of(states).tokens.cpu(), asked.draws, number)
            )
        for score, best in zip(SCORES, torch.tensor(tried).argmin(0).tolist(), strict=True):
            off[score].append(SHORTEST + best - size)
    return off


def scores(run: TrainedRun, start: Start, filled: Tensor, draws: int, number: int) -> list[float]:
    """The five scores of one length, in the order of `SCORES`."""
    length = filled.shape[1]
    given = torch.zeros(length, dtype=torch.bool)
    given[list(start.given)] = True
    everything, gap = torch.ones_like(given), ~given
    row = nelbo(run, filled, everything, everything & False, draws, number)
    return [
        nelbo(run, filled, given, gap, draws, number),
        row / length,
        row,
        nelbo(run, filled, given, gap & False, draws, number),
        nelbo(run, filled, gap, gap & False, draws, number) / int(gap.sum()),
    ]


def nelbo(
    run: TrainedRun, tokens: Tensor, scored: Tensor, hidden: Tensor, draws: int, number: int
) -> float:
    """The NELBO in nats of the tokens ``scored [L]``, with those that are ``hidden`` masked."""
    numbers = StepDraws(seed=0, step=number, rows=torch.arange(draws), global_rows=draws)
    count = (numbers.strata("count", "jittered") * scored.sum()).ceil().long()
    noise = numbers.uniform("mask", len(scored))
    mask = uniform_subset(noise, count, scored.expand(draws, -1))
    batch = Batch(tokens=tokens.expand(draws, -1).to(run.device))
    every = (mask | hidden).to(run.device)
    nll = run.call(lambda denoiser: run.live.objective.nll(denoiser, batch, every)).double().cpu()
    return (nll.where(mask, 0.0).sum(-1) * scored.sum() / count).mean().item()


def summary(off: Tensor) -> dict[str, dict[str, float]]:
    """Share of the right length, mean distance and mean error, each with its standard error."""
    shown = {"exact": (off == 0).double(), "distance": off.abs(), "bias": off}
    return {
        name: {"value": float(values.mean()), "stderr": float(values.std() / len(off) ** 0.5)}
        for name, values in shown.items()
    }


if __name__ == "__main__":
    main()
