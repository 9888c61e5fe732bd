"""Loss by time and gradient noise: right, harmless, and the same on every layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

from mdmkit import load_recipe, train
from mdmkit.metrics_log import read_metrics
from mdmkit.report.console import quiet
from mdmkit.training.checkpoint import load_weights
from mdmkit.training.diagnosis import _halves, gradient_noise
from mdmkit.training.distributed import World
from mdmkit.training.job import Job, open_job
from mdmkit.training.run_directory import open_run
from mdmkit.training.time_bins import TimeBins
from mdmkit.values import Attention, Loss, Noised

CPU = torch.device("cpu")
NOISE = ("train/grad_noise_trace", "train/grad_noise_signal")


def figures(run: Path, name: str) -> dict[int, float]:
    lines = read_metrics(run / "metrics.jsonl")
    return {line["step"]: line[name] for line in lines if name in line}


def noised(t: list[float]) -> Noised:
    tokens = torch.zeros(len(t), 2, dtype=torch.int64)
    return Noised(
        inputs=tokens,
        targets=tokens,
        in_loss=tokens == 0,
        weights=tokens.float(),
        t=torch.tensor(t),
        attention=Attention(),
        denominator=torch.tensor(1.0),
    )


def loss(nll: list[float], tokens: list[int]) -> Loss:
    return Loss(total=torch.tensor(0.0), nll=torch.tensor(nll), tokens=torch.tensor(tokens))


def test_time_bins_are_means_over_masked_tokens() -> None:
    bins = TimeBins(CPU)
    times = [torch.tensor([0.01, 0.09, 0.95]), torch.tensor([0.05])]
    bins.add(times, [loss([2, 4, 9], [1, 2, 3]), loss([4], [2])])
    assert bins.read(World(device=CPU)) == pytest.approx({0.05: 10 / 5, 0.95: 3.0})
    bins.restart()
    assert bins.read(World(device=CPU)) == {}


def test_time_bins_leave_out_rows_without_a_time_or_a_number() -> None:
    bins = TimeBins(CPU)
    times = [None, torch.tensor([0.5, 0.5])]
    bins.add(times, [loss([9, 9], [1, 1]), loss([float("nan"), 6], [3, 2])])
    assert bins.read(World(device=CPU)) == pytest.approx({0.55: 3.0})


def test_the_halves_are_even_under_every_power_of_two() -> None:
    sequences = torch.arange(64)
    for stride in (1, 2, 4, 8):
        for first in range(stride):
            assert _halves(sequences[first::stride]).sum() * 2 == 64 // stride


class OneWeight(nn.Module):
    """A network of one weight, so that the loss of a row decides its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, function: Any) -> Any:
        return function(self)


class RowsAsGradients:
    """Row i of the global batch has the gradient `rows[i]`, each counts 1."""

    group = 1

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def corrupt(self, batch: Any, draws: Any) -> Noised:
        return evolve(
            noised([0.5] * len(draws.rows)),
            weights=self.rows[draws.rows][:, None].expand(-1, 2),
            denominator=torch.tensor(float(len(draws.rows)), dtype=torch.float64),
        )

    def loss(self, denoiser: OneWeight, noised: Noised) -> Loss:
        kept = noised.weights[:, 0] * noised.in_loss.any(-1)
        return Loss(
            total=(kept * denoiser.weight).sum(), nll=kept.detach(), tokens=noised.in_loss.sum(-1)
        )


@pytest.fixture
def job(tiny_recipe: Path) -> Any:
    recipe = load_recipe(tiny_recipe, ["train.micro_batch_size=2"])
    directory = tiny_recipe.parent / "run"
    world = World(device=CPU)
    with open_run(recipe, directory, world), open_job(recipe, directory, world, quiet()) as job:
        yield job


def test_trace_and_signal_are_unbiased(job: Job) -> None:
    source, mean, deviation, found = torch.Generator().manual_seed(0), 0.7, 2.0, []
    job.root = OneWeight()  # type: ignore[assignment]
    job.optimizer = torch.optim.AdamW(job.root.parameters())
    for _ in range(400):
        rows = mean + deviation * torch.randn(8, generator=source)
        job.live = evolve(job.live, objective=RowsAsGradients(rows))  # type: ignore[arg-type]
        trace, signal = gradient_noise(job)
        found.append([trace, signal])
    estimates = torch.tensor(found, dtype=torch.float64)
    error = estimates.std(0) / 400**0.5
    truth = torch.tensor([deviation**2, mean**2], dtype=torch.float64)
    assert ((estimates.mean(0) - truth).abs() < 4 * error).all()
    assert (error < 0.3 * truth.clamp(min=1)).all()


def test_it_changes_nothing_of_the_training(tiny_recipe: Path, tmp_path: Path) -> None:
    runs = [
        train(
            load_recipe(tiny_recipe, [f"train.diagnose_every={every}", "denoiser.dropout=0.1"]),
            runs_dir=tmp_path / str(every),
        ).directory
        for every in (0, 3)
    ]
    plain, diagnosed = (load_weights(run, ema=False).state for run in runs)
    assert all(torch.equal(plain[name], diagnosed[name]) for name in plain)
    assert not figures(runs[0], NOISE[0])
    assert list(figures(runs[1], NOISE[0])) == [3, 6, 9, 12]
    assert figures(runs[1], "train/nll_at_t/0.55")


def test_micro_batches_do_not_change_it(tiny_recipe: Path, tmp_path: Path) -> None:
    whole, parts = (
        train(
            load_recipe(tiny_recipe, ["train.diagnose_every=4", f"train.micro_batch_size={size}"]),
            runs_dir=tmp_path / str(size),
        ).directory
        for size in (8, 1)
    )
    for name in (*NOISE, "train/nll_at_t/0.45", "train/masked_share"):
        assert figures(parts, name) == pytest.approx(figures(whole, name), rel=1e-3), name


def test_an_interruption_does_not_change_it(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["train.diagnose_every=5", "train.checkpoint_every=3"])
    run = train(recipe, runs_dir=tmp_path).directory
    names = (*NOISE, "train/nll_at_t/0.45")
    before = [figures(run, name) for name in names]
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    train(recipe, runs_dir=tmp_path)  # from step 9, in the middle of a window
    assert [figures(run, name) for name in names] == before
