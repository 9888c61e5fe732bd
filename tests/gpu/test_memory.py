"""The memory that is planned without a GPU, against what a GPU allocates; skipped without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdmkit import load_recipe
from mdmkit.costs.gpus import GPUS
from mdmkit.costs.plan import planner_of
from mdmkit.report.console import quiet
from mdmkit.training.distributed import World
from mdmkit.training.job import open_job
from mdmkit.training.loop import train_step
from mdmkit.training.prefetch import corrupted

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LARGE = [  # so that the workspaces of kernels, some 40 MB, do not matter
    "data.length=1024", "data.tokenizer={use='bytes'}", "denoiser.width=768", "denoiser.depth=6",
    "denoiser.heads=12", "denoiser.tied=false", "train.global_batch_size=32",
]  # fmt: skip


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize(
    "more", [(), ("train.precision=fp32",), ("train.micro_batch_size=8",)], ids=" ".join
)
def test_the_fullest_moment_of_a_step(tmp_path: Path, more: tuple[str, ...], checkpointing) -> None:
    kept = f"parallel.activation_checkpointing={checkpointing}"
    recipe = load_recipe("quickstart_bell", [*LARGE, *more, kept])
    world = World(device=torch.device("cuda"))
    with open_job(recipe, tmp_path, world, quiet()) as job:
        for step in range(2):  # the first makes workspaces
            torch.cuda.reset_peak_memory_stats()
            micro_batches = [corrupted(job, *parts) for parts in job.batches.at(step)]
            train_step(job, micro_batches, torch.ones((), device=world.device), 1e-4)
        measured = torch.cuda.max_memory_allocated()
        vocab_size = job.tokenizer.vocab.size
    planned = planner_of(recipe, vocab_size, GPUS["h100"])
    assert planned.memory.total == pytest.approx(measured, rel=0.1)
