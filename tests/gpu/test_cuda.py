"""The same things on a CUDA device; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdmkit import evaluate, load_recipe, sample, train
from mdmkit.builtin.denoisers.dit import Dit
from mdmkit.builtin.denoisers.layers import vocabulary_linear
from mdmkit.diffusion import masked_nll
from mdmkit.head import weighted_loss
from mdmkit.metrics_log import read_metrics
from mdmkit.recipe import Train
from mdmkit.report.console import quiet
from mdmkit.training.checkpoint import checkpoints_dir, load_checkpoint, step_name
from mdmkit.training.distributed import World
from mdmkit.training.job import open_job
from mdmkit.training.loop import train_step
from mdmkit.training.prefetch import corrupted
from mdmkit.training.run_directory import open_run
from mdmkit.training.saving import Saver
from mdmkit.training.totals import Totals
from mdmkit.values import Attention, Noised, Vocabulary

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_train_evaluate_sample(tiny_recipe: Path, precision: str) -> None:
    recipe = load_recipe(tiny_recipe, [f'train.precision="{precision}"', "denoiser.dropout=0.1"])
    result = train(recipe, device="cuda")
    lines = read_metrics(result.directory / "metrics.jsonl")
    validated = [line["val/nelbo_per_token"] for line in lines if "val/nelbo_per_token" in line]
    assert validated[-1] < validated[0]
    found = evaluate(result.directory, device="cuda")["held_out"]
    again = evaluate(result.directory, device="cpu")["held_out"]
    on_gpu, on_cpu = found.measurements["nelbo_per_token"], again.measurements["nelbo_per_token"]
    assert on_gpu.value == pytest.approx(on_cpu.value, rel=2e-2 if precision == "bf16" else 1e-4)
    assert len(sample(result.directory, n=2, device="cuda")) == 2


def test_the_curve_is_that_of_the_cpu(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe)
    runs = {
        device: train(recipe, device=device, runs_dir=tmp_path / device).directory
        for device in ("cpu", "cuda")
    }
    losses = {
        device: [line["train/loss"] for line in read_metrics(run / "metrics.jsonl")[1:]
                 if "train/loss" in line]
        for device, run in runs.items()
    }  # fmt: skip
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)


def test_a_step_never_waits_for_the_gpu(tiny_recipe: Path) -> None:
    recipe, world = load_recipe(tiny_recipe), World(device=torch.device("cuda"))
    directory = tiny_recipe.parent / "run"
    with open_run(recipe, directory, world), open_job(recipe, directory, world, quiet()) as job:
        totals = Totals(world, lambda: False)
        batches = [[corrupted(job, *parts) for parts in job.batches.at(s)] for s in (0, 1)]
        train_step(job, batches[0], totals.denominator(batches[0]), 1e-3)  # allocates
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(job, batches[1], totals.denominator(batches[1]), 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("fill", [1, 128])
def test_the_head_is_that_of_all_logits(fill: int) -> None:
    torch.manual_seed(0)
    options = Dit(width=64, depth=1, heads=2, adaln=False)
    denoiser = options.build(Vocabulary(size=1000, mask_id=999)).cuda()
    torch.nn.init.normal_(denoiser.output_layer.linear.weight, std=0.1)
    targets = torch.randint(0, 999, (8, 64))
    in_loss = torch.rand(8, 64) < 0.5
    noised = Noised(
        inputs=targets.where(~in_loss, 999), targets=targets, in_loss=in_loss,
        weights=torch.rand(8, 64) + 0.1, t=None, attention=Attention(),
        denominator=torch.tensor(1.0),
    )  # fmt: skip
    found = weighted_loss(denoiser, noised.placed(fill).to(torch.device("cuda")), 999)
    found.total.backward()
    gradient = denoiser.output_layer.linear.weight.grad.clone()
    denoiser.zero_grad()
    moved = noised.to(torch.device("cuda"))
    logits = denoiser.unembed(denoiser(moved.inputs)[moved.in_loss])
    nll = masked_nll(logits, moved.targets[moved.in_loss], 999)
    wanted = (nll * moved.weights[moved.in_loss]).sum()
    wanted.backward()
    torch.testing.assert_close(found.total, wanted, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        gradient, denoiser.output_layer.linear.weight.grad, rtol=1e-3, atol=1e-3
    )


def test_an_odd_vocabulary_is_filled_up_and_cut_again() -> None:
    torch.manual_seed(0)
    h = torch.randn(3, 5, 64, device="cuda", requires_grad=True)
    weight = torch.randn(4099, 64, device="cuda", requires_grad=True)
    bias = torch.randn(4099, device="cuda", requires_grad=True)
    slope = torch.randn(3, 5, 4099, device="cuda")
    for made, wanted in zip(
        *(
            (out := linear(h, weight, bias), *torch.autograd.grad(out, (h, weight, bias), slope))
            for linear in (vocabulary_linear, torch.nn.functional.linear)
        ),
        strict=True,
    ):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-3)


def test_a_checkpoint_is_of_the_state_at_the_call(tmp_path: Path) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    state = {"big": torch.zeros(64_000_000, device=device), "on_the_cpu": torch.zeros(3)}
    options = Train(steps=9, global_batch_size=1, checkpoints_in_flight=2)
    writer = Saver(tmp_path, options, World(device=device))
    for step in (1, 2, 3):  # the third into the pinned memory of the first
        for tensor in state.values():
            tensor.fill_(step)
        writer.save(step, state, {})
        for tensor in state.values():
            tensor.fill_(99)
    writer.close()
    for step in (2, 3):
        path = checkpoints_dir(tmp_path) / step_name(step)
        found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        load_checkpoint(path, found, world=World(device=device))
        assert all((tensor == step).all() for tensor in found.values())
